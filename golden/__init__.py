"""Outputs of the reference kept as authority, with their pedigree."""

from lingspec.golden.store import ENTRIES, check, record

__all__ = ["ENTRIES", "check", "record"]
