"""Paged caches: tables of pages, what no sequence uses, and the same rows in other pages.

Letters: B batch, P pages, G rows of a page, M entries of a table, W width of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

__all__ = [
    "FILLS",
    "STRAYS",
    "TABLES",
    "lengths",
    "padded",
    "rows_of",
    "stored",
    "strays",
    "table",
    "unused",
]

FILLS = ("ragged", "borders", "full", "single", "sparse")  # how long the sequences are
TABLES = ("shuffled", "shared", "ordered")  # which pages they have
STRAYS = (-1, 0, 2**31 - 1, -(2**31), 7)  # entries that are not followed; 64 bits hold more
FAR_STRAYS = (2**62, -(2**62), 2**32)


def lengths(kind: str, B: int, G: int, M: int, g: Generator) -> list[int]:
    """Rows of each sequence, 0 to M G."""
    most = M * G

    def below(n: int) -> int:
        return int(torch.randint(0, n + 1, (1,), generator=g))

    if kind == "full":
        return [most] * B
    if kind == "single":
        return [min(1, most)] * B
    if kind == "borders":  # beside the ends of pages
        return [min(max(0, below(M) * G + below(2) - 1), most) for _ in range(B)]
    if kind == "sparse":
        return [below(most) * below(1) for _ in range(B)]
    return [max(min(1, most), below(most)) for _ in range(B)]


def table(kind: str, used: Sequence[int], M: int, P: int, g: Generator) -> Tensor:
    """(B, M) pages, int64; sequences share pages where there are too few, or if they are to."""
    B = len(used)
    order = torch.arange(P) if kind == "ordered" else torch.randperm(P, generator=g)
    made = torch.zeros(B, M, dtype=torch.int64)
    at = 0
    for b, n in enumerate(used):
        common = n // 2 if kind == "shared" and b else 0  # the first pages are those of sequence 0
        for i in range(n):
            if i < min(common, used[0]):
                made[b, i] = made[0, i]
            else:
                made[b, i] = order[at % P]
                at += 1
    return made


def strays(pages: Tensor, used: Sequence[int], g: Generator, dtype: torch.dtype) -> Tensor:
    """The same table with any integer in the entries that are not followed."""
    choices = (*STRAYS, *FAR_STRAYS) if dtype == torch.int64 else STRAYS
    any_ = torch.tensor(choices)[torch.randint(0, len(choices), pages.shape, generator=g)]
    return torch.where(_behind(pages, used), any_, pages).to(dtype)


def padded(pages: Tensor) -> Tensor:
    """The same table as the first columns of a wider one."""
    room = torch.full((pages.shape[0], pages.shape[1] + 3), -1, dtype=pages.dtype)
    made = room[:, : pages.shape[1]]
    made.copy_(pages)
    return made


def _behind(pages: Tensor, used: Sequence[int]) -> Tensor:
    count = torch.tensor(list(used), dtype=torch.int64)[:, None]
    return torch.arange(pages.shape[1])[None] >= count


def unused(cache: Tensor, pages: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """What is not read: elements of the cache, entries of the table."""
    P, G, _ = cache.shape
    free = torch.ones(P, G, dtype=torch.bool)
    counts = rows.tolist()
    for b, length in enumerate(counts):
        row = torch.arange(length)
        free[pages[b].long()[row // G], row % G] = False
    behind = _behind(pages, [-(-n // G) for n in counts])
    return free[..., None].expand(cache.shape), behind


def rows_of(cache: Tensor, pages: Tensor, rows: Tensor) -> list[Tensor]:
    """The rows of each sequence, (length, W)."""
    G = cache.shape[1]
    made = []
    for b, length in enumerate(rows.tolist()):
        row = torch.arange(length)
        made.append(cache[pages[b].long()[row // G], row % G])
    return made


def stored(rows: Sequence[Tensor], like: Tensor, G: int) -> tuple[Tensor, Tensor]:
    """A cache of pages of G rows that holds these sequences, and its table.

    Pages are used from the last to the first; what no sequence uses is as large as can be.
    """
    used = [-(-len(x) // G) for x in rows]
    P, M = sum(used) + 1, max([0, *used])
    cache = torch.full((P, G, like.shape[2]), torch.finfo(like.dtype).max, dtype=like.dtype)
    pages = torch.full((len(rows), M), -1, dtype=torch.int64)
    at = P
    for b, x in enumerate(rows):
        for i in range(used[b]):
            at -= 1
            part = x[i * G : (i + 1) * G]
            cache[at, : len(part)] = part
            pages[b, i] = at
    return cache, pages
