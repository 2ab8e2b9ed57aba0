"""Weights that nobody has to download: a function of tensor name, index and seed.

Element n of a tensor is made of byte n % 4 of a 32-bit hash of n // 4, by integer arithmetic alone,
and is exact in bfloat16. So torch and numpy, every device, and every rank that makes only its own
rows or columns have equal bits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.layout import FLOAT32, tensors

__all__ = ["Recipe", "Synthetic", "hashed", "keys", "recipe"]

WORDS = 1 << 16  # hashed at a time: what stays in a core's cache
# Finaliser "lowbias32" of Chris Wellons' hash prospector (public domain).
MULTIPLY, AGAIN = 0x7FEB352D, 0x846CA68B
SPREAD = math.sqrt((2**16 - 1) / 3)  # standard deviation of an odd number from -255 to 255


@dataclass(frozen=True)
class Recipe:
    """How a byte b, from -128 to 127, becomes a number.

    ``exponent`` e: (2 b + 1) 2^e; or, around 1, 1 + floor(b / 8) 2^-7: all exact in bfloat16.
    """

    exponent: int = 0
    around_one: bool = False


def keys(name: str, seed: int) -> tuple[int, int]:
    """What makes a tensor's hashes its own: an odd factor and an offset, of 32 bits."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little") | 1, int.from_bytes(digest[4:8], "little")


def hashed(index: Tensor, factor: int, offset: int) -> Tensor:
    """The 32-bit hashes of int32 word numbers, in place.

        x = factor index + offset;  x ^= x >> 16;  x *= a;  x ^= x >> 15;  x *= b;  x ^= x >> 16

    modulo 2^32, with logical shifts.
    """
    x = index.mul_(_signed(factor)).add_(_signed(offset))
    for shift, multiply in ((16, MULTIPLY), (15, AGAIN), (16, 1)):
        x.bitwise_xor_((x >> shift).bitwise_and_((1 << (32 - shift)) - 1))
        if multiply != 1:
            x.mul_(_signed(multiply))
    return x


def recipe(config: LingConfig, name: str, shape: tuple[int, ...]) -> Recipe:
    """Numbers that keep activations of order 1 through all layers, and tell tokens apart.

    Projections have variance 1 / inputs; those that write to the residual stream share it between
    all layers; norms are around 1; the router's bias is within 0.07.
    """
    if name.endswith(FLOAT32):
        return Recipe(-12)
    if len(shape) == 1:
        return Recipe(-14) if name.endswith(".bias") else Recipe(around_one=True)
    size = 1.0 if "word_embeddings" in name else shape[1] ** -0.5
    if name.endswith((".attention.dense.weight", ".down_proj.weight")):
        size /= math.sqrt(2 * config.num_hidden_layers)
    if name == "lm_head.weight":
        size *= 4
    return Recipe(round(math.log2(size / SPREAD)))


class Synthetic(Mapping[str, Tensor]):
    """A checkpoint of released names and shapes, made when touched.

    Args:
        config: What it is a checkpoint of.
        seed:   Another seed, other weights.
        dtype:  bfloat16 as released, or any wider one: the same numbers.
    """

    def __init__(
        self, config: LingConfig, seed: int = 0, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.config, self.seed, self.dtype = config, seed, dtype
        self._shapes = dict(tensors(config))

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        return self._made(name, 0, math.prod(shape)).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor that is not made."""
        return self._shapes[name]

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Rows of a matrix; no others are made."""
        width = self._shapes[name][1]
        made = [self._made(name, i * width, width) for i in index.flatten().tolist()]
        whole = torch.cat(made) if made else torch.zeros(0, dtype=self.dtype)
        return whole.view(*index.shape, width)

    def part(self, name: str, rows: slice, columns: slice = slice(None)) -> Tensor:
        """A block of a matrix, as a tensor-parallel rank holds it; nothing else is kept."""
        height, width = self._shapes[name]
        first, last, step = rows.indices(height)
        require(step == 1, "rows", "step", step, "1")
        return torch.cat(
            [self._made(name, i * width, width)[columns][None] for i in range(first, last)]
            or [torch.zeros(0, len(range(width)[columns]), dtype=self.dtype)]
        )

    def _made(self, name: str, first: int, count: int) -> Tensor:
        """Elements ``first`` to ``first + count`` of a tensor, flat."""
        factor, offset = keys(name, self.seed)
        dtype = self.dtype
        if name.endswith(FLOAT32) and dtype != torch.float64:
            dtype = torch.float32
        made = torch.empty(count, dtype=dtype)
        how = recipe(self.config, name, self._shapes[name])
        start = first // 4
        for word in range(start, -(-(first + count) // 4), WORDS):
            last = min(word + WORDS, -(-(first + count) // 4))
            x = hashed(torch.arange(word, last, dtype=torch.int32), factor, offset)
            low, high = max(4 * word, first), min(4 * last, first + count)
            value = x.view(torch.int8)[low - 4 * word : high - 4 * word]
            _numbers(value, how, made[low - first : high - first])
        return made


def _numbers(value: Tensor, how: Recipe, out: Tensor) -> None:
    """Bytes to numbers, by the recipe."""
    if how.around_one:
        out.copy_(value >> 3).mul_(2.0**-7).add_(1.0)
    else:
        out.copy_(value).mul_(2.0 ** (how.exponent + 1)).add_(2.0**how.exponent)


def _signed(x: int) -> int:
    """The int32 of the same bits."""
    return x - (1 << 32) if x >= 1 << 31 else x
