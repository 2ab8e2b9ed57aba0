"""Other ways to compute an op, one file an op; tests hold them to the definition."""
