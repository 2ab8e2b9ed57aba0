"""Outputs of the reference kept as authority, with their pedigree; traces of whole models."""

from lingspec.golden.record import record
from lingspec.golden.recorder import Recorder
from lingspec.golden.store import ENTRIES, check
from lingspec.golden.trace import Trace, TraceError, digest, open_trace

__all__ = [
    "ENTRIES",
    "Recorder",
    "Trace",
    "TraceError",
    "check",
    "digest",
    "open_trace",
    "record",
]
