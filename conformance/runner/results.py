"""What a candidate's process sent, made fit to be looked at."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["one_line", "printable", "unpacked"]

# What a result may be made of; anything else is not read.
DTYPES = frozenset(
    name for name, x in vars(torch).items()
    if isinstance(x, torch.dtype) and not name.startswith(("q", "bits"))
)  # fmt: skip


def printable(text: str) -> str:
    """A candidate's words, without what would steer a terminal or break an XML file."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def one_line(text: str) -> str:
    """As much of a candidate's words as a report has room for."""
    line = " ".join(printable(text).split())
    return line if len(line) <= 500 else f"{line[:500]}…"


def unpacked(described: list[dict[str, Any]], payload: bytearray) -> list[Tensor]:
    """Tensors of the dtypes and shapes that were told, out of one run of bytes.

    Raises:
        ValueError: a dtype is none that a result may have, or the bytes do not suffice.
    """
    outputs, at = [], 0
    for o in described:
        if o["dtype"] not in DTYPES:
            raise ValueError(f"results of dtype {o['dtype']}")
        dtype: torch.dtype = getattr(torch, o["dtype"])
        count = math.prod(o["shape"])
        part = payload[at : at + count * dtype.itemsize]
        at += count * dtype.itemsize
        flat = torch.frombuffer(part, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        outputs.append(flat.reshape(o["shape"]))
    return outputs
