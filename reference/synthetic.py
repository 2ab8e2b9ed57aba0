"""Weights that nobody has to download: a function of tensor name, index and seed.

Element n of a tensor is made of byte n % 4 of a 32-bit hash of n // 4, by integer arithmetic alone,
and is exact in bfloat16. So torch, numpy, and every rank that makes only its own rows or columns
have equal bits.
"""

from __future__ import annotations

import hashlib
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.layout import FLOAT32, tensors

__all__ = ["Recipe", "Synthetic", "keys", "mixed", "recipe"]

WORDS = 1 << 17  # hashed at a time: few enough for a core's cache, many enough for its thread
PIECE = 1 << 22  # elements of a thread's piece of work
SMALL, LARGE = 1 << 20, 1 << 29  # bytes: buffers of other sizes are not kept
MOST = 4  # buffers kept: the three matrices of an expert, and one more
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


def mixed(x: Tensor, shifted: Tensor | None = None) -> Tensor:
    """The 32-bit hashes of int32 numbers, in place; ``shifted`` is memory of the same size.

        x ^= x >> 16;  x *= a;  x ^= x >> 15;  x *= b;  x ^= x >> 16

    modulo 2^32, with logical shifts.
    """
    shifted = torch.empty_like(x) if shifted is None else shifted
    for shift, multiply in ((16, MULTIPLY), (15, AGAIN), (16, 1)):
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1))
        if multiply != 1:
            x.mul_(_signed(multiply))
    return x


def recipe(config: LingConfig, name: str, shape: tuple[int, ...]) -> Recipe:
    """Numbers that keep activations of order 1 through all layers, and tell tokens apart.

    Projections have variance 1 / inputs; those that write to the residual stream 8 / layers of it,
    so that all layers together weigh several times what the embedding does, and none dwarfs the
    others; norms are around 1; the router's bias is within 0.07.
    """
    if name.endswith(FLOAT32):
        return Recipe(-12)
    if len(shape) == 1:
        return Recipe(-14) if name.endswith(".bias") else Recipe(around_one=True)
    size = 1.0 if "word_embeddings" in name else shape[1] ** -0.5
    if name.endswith((".attention.dense.weight", ".down_proj.weight")):
        size *= math.sqrt(8 / config.num_hidden_layers)
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

    finite = True  # by construction

    def __init__(
        self, config: LingConfig, seed: int = 0, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.config, self.seed, self.dtype = config, seed, dtype
        self._shapes = dict(tensors(config))
        self._memory = _Memory()

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        return self._made(name, 0, math.prod(shape)).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

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
        """A block of a matrix, as a tensor-parallel rank holds it; no others are made."""
        height, width = self._shapes[name]
        (top, bottom, step), (left, right, stride) = rows.indices(height), columns.indices(width)
        require(step == stride == 1, "rows, columns", "steps", (step, stride), "1 and 1")
        height, count = max(bottom - top, 0), max(right - left, 0)
        if count == width:
            return self._made(name, top * width, height * width).view(height, width)
        if width % 4:  # rows start within a word
            made = [self._made(name, r * width + left, count) for r in range(top, top + height)]
            return torch.cat([row[None] for row in made] or [self._made(name, 0, 0).view(0, count)])
        return self._block(name, top, height, left, count)

    def _block(self, name: str, top: int, height: int, left: int, count: int) -> Tensor:
        """Some columns of some rows, each of which starts with a word."""
        factor, offset = keys(name, self.seed)
        words = self._shapes[name][1] // 4  # of a row
        made = self._memory.take(height * count, self._dtype(name)).view(height, count)
        how = recipe(self.config, name, self._shapes[name])
        across = torch.arange(left // 4, -(-(left + count) // 4), dtype=torch.int32)
        many = max(WORDS // max(len(across), 1), 1)  # rows at a time

        def fill(row: int) -> None:
            down = torch.arange(row, min(row + many, top + height), dtype=torch.int32)
            x = (down[:, None] * words + across).mul_(_signed(factor)).add_(_signed(offset))
            value = mixed(x).view(torch.int8)[:, left % 4 : left % 4 + count]
            _numbers(value, how, made[row - top : row - top + len(down)])

        _in_threads(fill, range(top, top + height, many))
        return made

    def _made(self, name: str, first: int, count: int) -> Tensor:
        """Elements ``first`` to ``first + count`` of a tensor, flat."""
        made = self._memory.take(count, self._dtype(name))
        how, of = recipe(self.config, name, self._shapes[name]), keys(name, self.seed)
        pieces = range(0, count, PIECE)
        _in_threads(
            lambda n: _fill(made[n : n + PIECE], first + n, how, *of), pieces,
        )  # fmt: skip
        return made

    def _dtype(self, name: str) -> torch.dtype:
        bias = name.endswith(FLOAT32) and self.dtype != torch.float64
        return torch.float32 if bias else self.dtype


def _fill(out: Tensor, first: int, how: Recipe, factor: int, offset: int) -> None:
    """The elements of a tensor from ``first`` on, as many as ``out`` takes."""
    count = len(out)
    start, end = first // 4, -(-(first + count) // 4)  # words
    steps = torch.arange(min(WORDS, end - start), dtype=torch.int32).mul_(_signed(factor))
    some, more = torch.empty_like(steps), torch.empty_like(steps)
    for word in range(start, end, WORDS):
        last = min(word + WORDS, end)
        x, shifted = some[: last - word], more[: last - word]
        torch.add(steps[: last - word], _signed(factor * word + offset), out=x)
        mixed(x, shifted)
        low, high = max(4 * word, first), min(4 * last, first + count)
        value = x.view(torch.int8)[low - 4 * word : high - 4 * word]
        _numbers(value, how, out[low - first : high - first])


def _in_threads(work: Callable[[int], None], pieces: Sequence[int]) -> None:
    """Do pieces of work, each by one thread, as many at a time as torch has threads.

    Torch itself would share out every single operation, and would wait for its slowest part each
    time: beside another busy process that takes tens of times as long.
    """
    threads = min(torch.get_num_threads(), len(pieces))
    if threads < 2:
        for piece in pieces:
            work(piece)
        return
    # The number of threads is each thread's own, and what new threads begin with.
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, pieces))
    finally:
        torch.set_num_threads(before)


class _Memory:
    """A few large buffers, used again once no tensor is in them.

    Pages that a process gets for the first time cost more than the numbers that are put there.
    """

    def __init__(self) -> None:
        # A tensor holds the view that it was made of, and nobody else does.
        self._held: list[tuple[bytearray, weakref.ref[memoryview]]] = []
        self._lock = threading.Lock()  # two readers must not be given one buffer

    def take(self, count: int, dtype: torch.dtype) -> Tensor:
        """``count`` numbers, not written yet."""
        size = count * dtype.itemsize
        if not SMALL <= size <= LARGE:
            return torch.empty(count, dtype=dtype)
        with self._lock:
            buffer = self._free(size)
            view = memoryview(buffer)
            self._held = [*self._held[1 - MOST :], (buffer, weakref.ref(view))]
        return torch.frombuffer(view, dtype=dtype)

    def _free(self, size: int) -> bytearray:
        """A buffer that no tensor is in: one of that size, or a new one in place of another."""
        free = [one for one in self._held if one[1]() is None]
        gone = [one for one in free if len(one[0]) == size][:1]
        self._held = [o for o in self._held if not any(o is one for one in gone or free)]
        return gone[0][0] if gone else bytearray(size)


def _numbers(value: Tensor, how: Recipe, out: Tensor) -> None:
    """Bytes to numbers, by the recipe."""
    if how.around_one:
        out.copy_(value >> 3)
        unit, shift = 2.0**-7, 1.0
    else:
        out.copy_(value)
        unit, shift = 2.0 ** (how.exponent + 1), 2.0**how.exponent
    torch.add(torch.tensor(shift, dtype=out.dtype), out, alpha=unit, out=out)


def _signed(x: int) -> int:
    """The int32 that x is modulo 2^32."""
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)
