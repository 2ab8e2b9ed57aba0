"""What the contracts of FP8 share: rows and blocks with scales of their own.

Letters: M rows, N columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Pick
from lingspec.reference.ops.fp8_quantize import scale_shape

__all__ = [
    "BLOCK",
    "KINDS",
    "block_of",
    "groups",
    "largest_of",
    "one_of",
    "places",
    "scale_shape",
    "shape",
    "to_groups",
]

Block = tuple[int, int] | None

BLOCK = (128, 128)
KINDS = ("rows", "blocks")
FEW = (*range(1, 10), 16, 17, 31, 33)
COLUMNS = (8, 1, 2, 3, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 255, 256, 257, 384, 1000)
ACROSS = (128, 1, 2, 64, 100, 127, 129, 130, 200, 255, 256, 257)


def block_of(case: Case) -> Block:
    """The argument ``block``."""
    return BLOCK if case.traits["scales"] == "blocks" else None


def shape(pick: Pick, law: str, kind: str, *, small: bool) -> dict[str, int]:
    """M and N: beside the edges of blocks, or any; 0 under the law of the authority."""
    if law == "authority" and pick(range(10)) == 9:
        return {"M": pick((0, 5)), "N": 0} if pick((True, False)) else {"M": 0, "N": pick((1, 129))}
    if kind == "rows":
        M, N = pick(pick((FEW, (48, 64, 65)))), pick(COLUMNS)
        return {"M": min(M, 17) if small else M, "N": min(N, 257) if small or M > 40 else N}
    M, N = pick(ACROSS), pick(ACROSS)
    return {"M": min(M, 130), "N": min(N, 130)} if small else {"M": M, "N": N}


def places(shape: Sequence[int], block: Block) -> Tensor:
    """Of every element, which scale is its, counted along the rows of scales."""
    M, N = shape
    high, wide = block or (1, max(N, 1))
    across = scale_shape((M, N), block)[1]
    rows, columns = torch.arange(M) // high, torch.arange(N) // wide
    return rows[:, None] * across + columns


def largest_of(x: Tensor, block: Block) -> Tensor:
    """The largest magnitude of each row or block."""
    shape = scale_shape((x.shape[0], x.shape[1]), block)
    made = x.new_zeros(shape).flatten()
    made.scatter_reduce_(0, places(x.shape, block).flatten(), x.abs().flatten(), "amax")
    return made.view(shape)


def to_groups(of: Tensor, shape: Sequence[int], block: Block) -> Tensor:
    """One number for each scale, as one for each element."""
    flat = of.flatten()
    return flat[places(shape, block)] if flat.numel() else of.new_zeros(*shape)


def groups(shape: Sequence[int], block: Block) -> Iterator[tuple[slice, slice]]:
    """Rows, or blocks, as slices; those that hold something."""
    M, N = shape
    high, wide = block or (1, max(N, 1))
    for a in range(0, M, high):
        for b in range(0, N, wide):
            yield slice(a, min(a + high, M)), slice(b, min(b + wide, N))


def one_of(options: int, g: Generator) -> int:
    """A number below ``options``."""
    return int(torch.randint(0, options, (1,), generator=g))
