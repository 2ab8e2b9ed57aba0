"""The synthetic weights once more, in NumPy alone: for engines without torch, and as a check.

This file imports nothing of lingspec. It may be carried to where an engine runs, and every rank
can make its own rows and columns there.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["bfloat16_bits", "tensor"]

Floats = NDArray[np.float32]
ROWS = 1 << 20  # elements at a time


def tensor(
    name: str, shape: tuple[int, ...], seed: int, *, exponent: int, around_one: bool = False,
    rows: slice = slice(None), columns: slice = slice(None),
) -> Floats:  # fmt: skip
    """A tensor of a synthetic checkpoint, or some rows and columns of a matrix.

    Element n is made of byte n % 4 of the hash of n // 4:

        x = factor (n // 4) + offset;  x ^= x >> 16;  x *= a;  x ^= x >> 15;  x *= b;  x ^= x >> 16

    in 32 bits; factor and offset are the first two words of SHA-256("seed/name"), the factor made
    odd. A byte b, from -128 to 127, stands for (2 b + 1) 2^exponent, or, around one, for
    1 + floor(b / 8) / 128.

    Args:
        name:       As in the released checkpoint.
        shape:      Of the whole tensor, of one or two axes.
        seed:       Another seed, other weights.
        exponent:   Of the name, as `lingspec synth --recipes` prints it.
        around_one: Likewise.
        rows:       Of a matrix, or elements of a vector.
        columns:    Of a matrix.

    Returns:
        float32; every number is one of bfloat16 too, but for the router's bias.
    """
    width = shape[-1]
    height = 1 if len(shape) == 1 else shape[0]
    if len(shape) == 1:
        rows, columns = slice(None), rows
    down = np.arange(height, dtype=np.int64)[rows]
    across = np.arange(width, dtype=np.int64)[columns]
    made = np.empty((len(down), len(across)), np.float32)
    many = max(ROWS // max(len(across), 1), 1)
    for first in range(0, len(down), many):
        index = down[first : first + many, None] * width + across
        made[first : first + many] = _numbers(_bytes(index, name, seed), exponent, around_one)
    return made[0] if len(shape) == 1 else made


def bfloat16_bits(x: Floats) -> NDArray[np.uint16]:
    """The bits of numbers that bfloat16 has."""
    bits = x.view(np.uint32)
    if (bits & np.uint32(0xFFFF)).any():
        raise ValueError("x has numbers that bfloat16 has not")
    return (bits >> np.uint32(16)).astype(np.uint16)


def _bytes(index: NDArray[np.int64], name: str, seed: int) -> NDArray[np.int8]:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    factor = np.uint32(int.from_bytes(digest[:4], "little") | 1)
    offset = np.uint32(int.from_bytes(digest[4:8], "little"))
    x = (index // 4).astype(np.uint32) * factor + offset
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    shift = (8 * (index % 4)).astype(np.uint32)
    return ((x >> shift) & np.uint32(255)).astype(np.uint8).view(np.int8)


def _numbers(b: NDArray[np.int8], exponent: int, around_one: bool) -> Floats:
    wide = b.astype(np.float32)
    if around_one:
        made: Floats = np.float32(1) + np.floor(wide / np.float32(8)) / np.float32(128)
    else:
        made = (2 * wide + 1) * np.float32(2.0**exponent)
    return made
