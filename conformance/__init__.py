"""What "the same" means. Importing this package imports neither torch nor the reference."""

from lingspec.conformance.adapter import implements

__all__ = ["implements"]
