"""Run a candidate in a process of its own, which gets inputs and never the expected values."""
