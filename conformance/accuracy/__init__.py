"""Where every limit comes from: declared roundings, carried through the lines of the reference."""
