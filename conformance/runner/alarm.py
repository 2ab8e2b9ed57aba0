"""What the candidate's process says about itself while it runs: a pipe that only grows.

What was written to a pipe cannot be taken back, so neither can an alarm.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["Alarm", "raised"]

_LONGEST = 400  # bytes of one alarm: pipes keep so few together


def raised(fd: int, text: str) -> None:
    """Tell the judge, from any thread of the candidate's process."""
    line = " ".join(text.split()).encode(errors="replace")[:_LONGEST]
    with contextlib.suppress(OSError):  # closed, or full: then the judge knows enough
        os.write(fd, line + b"\n")


class Alarm:
    """The judge's end, and until it is handed on, the other."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self.write, False)
        self._part = b""

    def handed(self) -> None:
        """The candidate's process has its end; this one closes it."""
        os.close(self.write)

    def heard(self) -> list[str]:
        """What was told since this was last asked, each text once."""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._read, 1 << 16):
                self._part += more
        *lines, self._part = self._part.split(b"\n")
        return list(dict.fromkeys(line.decode(errors="replace") for line in lines if line))

    def close(self) -> None:
        """Listen no longer."""
        os.close(self._read)
