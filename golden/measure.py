"""How far two tensors of one name are from each other.

Letters: B sequences, T tokens, E experts, k chosen experts. A row is all but the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Difference", "Exchange", "difference", "exchanged", "mismatch", "routing"]

CHUNK = 1 << 16  # elements that are widened to float64 at a time: what stays in a core's cache
# A row may be this many times as far as its whole tensor may, since noise is not the same in all
# rows. Seen over the traces of the released code: 5.5. One wrong row among any number is not
# hidden by the others: it is 1 and more.
ROW = 8.0
SHOWN = 64  # rows that are kept by index
# Four scores and four sums of a score and a bias, each below 1 and within 2^-24.
SCORES = 2.0**-21


@dataclass(frozen=True)
class Exchange:
    """Experts that a token goes to in one trace and not in the other.

    Margins are those of sigmoid(router_logits), without the router's bias, which no trace holds.
    It cancels in ``tie`` where both routers have one: how far the scores of a pair moved against
    each other is the sum of both distances from a tie. The score of a group is that of two of its
    experts, so the distances of two groups have at most 4 times what the scores moved as their sum.
    """

    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    margin_a: float | None = None  # the widest between an expert that left and one that came
    margin_b: float | None = None
    tie: float | None = None  # at most this far from one, in either trace; None: no tie explains it
    groups: bool = False  # the experts are of other groups, so the tie may be that of groups
    explained: int | None = None  # tokens of the tensor whose exchange a tie can explain


@dataclass(frozen=True)
class Difference:
    """What there is to say of two tensors of one name."""

    name: str
    beyond: bool  # the limit
    # |a - b| / max(|a|, |b|), Frobenius; of whole numbers the share of rows that differ
    relative: float = 0.0
    row_relative: float = 0.0  # of the worst row, against the root mean square of all rows
    row: tuple[int, ...] = ()  # the worst
    index: tuple[int, ...] = ()  # the worst element
    values: tuple[float, float] = (0.0, 0.0)  # there
    rows: int = 0  # that count: padding does not
    off: int = 0  # rows that are beyond the tensor's limit
    off_rows: tuple[tuple[int, ...], ...] = ()  # the first of them
    same_nan: int = 0  # elements that are NaN in both
    axes: tuple[str, ...] = ()  # what the indices of a row count
    reason: str = ""  # where no number says it
    exchange: Exchange | None = None  # of the worst row


def mismatch(name: str, reason: str) -> Difference:
    """Two tensors that cannot be subtracted."""
    return Difference(name, beyond=True, relative=math.inf, row_relative=math.inf, reason=reason)


def difference(
    name: str, a: Tensor, b: Tensor, limit: float, *, keep: Tensor | None = None,
    axes: tuple[str, ...] = (),
) -> Difference:  # fmt: skip
    """Of two tensors of equal shape, in float64, a chunk at a time.

    A value that is not finite is equal to the same value only; of NaN any two are the same.

    Args:
        name:  Of both.
        a:     Any shape.
        b:     That of ``a``.
        limit: Of the whole tensor; a row may have `ROW` times as much. Whole numbers must be
               equal.
        keep:  (rows,) bool: other rows do not count. None: all count.
        axes:  As in `Difference`.
    """
    if a.is_floating_point() != b.is_floating_point():
        return mismatch(name, f"{_kind(a)} in A, {_kind(b)} in B")
    if not b.numel():
        return Difference(name, beyond=False, axes=axes)
    shape, dims = tuple(b.shape) or (1,), b.dim()
    a, b = a.reshape(-1, shape[-1]), b.reshape(-1, shape[-1])
    counted = len(b) if keep is None else int(keep.sum())
    if not b.is_floating_point():
        return _whole(Difference(name, beyond=False, rows=counted, axes=axes), a, b, shape, keep)
    seen = _Gaps(a, b, keep)
    far = seen.rows.sqrt() / (math.sqrt(seen.size / max(counted, 1)) or 1.0)
    relative, worst = _ratio(float(seen.rows.sum()), seen.size), int(far.argmax())
    off = (far > limit).nonzero()[:, 0]
    return Difference(
        name, beyond=not (relative <= limit and float(far[worst]) <= ROW * limit),
        relative=relative, row_relative=float(far[worst]), row=_unfold(worst, shape[:-1]),
        index=(*_unfold(seen.at[0], shape[:-1]), seen.at[1])[:dims],
        values=(float(a[seen.at]), float(b[seen.at])), rows=counted, off=len(off),
        off_rows=_first(off, shape), same_nan=seen.same_nan, axes=axes,
        reason="NaN or infinity on one side" if math.isinf(relative) else "",
    )  # fmt: skip


class _Gaps:
    """What is summed of two (rows, width) tensors of floats."""

    def __init__(self, a: Tensor, b: Tensor, keep: Tensor | None) -> None:
        self.rows = torch.zeros(len(b), dtype=torch.float64)  # squared gap of each row
        self.sizes = [0.0, 0.0]  # squares of both, without what is not finite
        self.at, self._worst = (0, 0), 0.0
        self.same_nan = 0
        scale = _scale(a, b)
        for first, x, y in _chunks(a, b):
            if keep is not None:
                x, y = (torch.where(keep[first : first + len(v), None], v, 0) for v in (x, y))
            if scale != 1:
                x, y = x / scale, y / scale
            self._add(first, x, y)

    @property
    def size(self) -> float:
        """The larger of both, squared."""
        return max(self.sizes)

    def _add(self, first: int, x: Tensor, y: Tensor) -> None:
        gap = (x - y).abs_()
        if not bool(gap.sum().isfinite()):
            gap, both = _gap(x, y), x.isnan() & y.isnan()
            self.same_nan += int(both.sum())
            x, y = x.nan_to_num(0, 0, 0), y.nan_to_num(0, 0, 0)
        self.rows[first : first + len(gap)] = torch.linalg.vecdot(gap, gap)
        for n, v in enumerate((x.flatten(), y.flatten())):
            self.sizes[n] += float(v.dot(v))
        most = int(gap.argmax())
        if (size := float(gap.view(-1)[most])) > self._worst:
            row, column = divmod(most, gap.shape[1])
            self._worst, self.at = size, (first + row, column)


def _whole(
    found: Difference, a: Tensor, b: Tensor, shape: tuple[int, ...], keep: Tensor | None
) -> Difference:
    """Of whole numbers, which are equal or not."""
    differ = a != b
    if keep is not None:
        differ &= keep[:, None]
    off = differ.any(dim=1).nonzero()[:, 0]
    if not len(off):
        return found
    at = tuple(differ.nonzero()[0].tolist())
    return replace(
        found, beyond=True, relative=len(off) / found.rows, row_relative=1.0,
        row=_unfold(at[0], shape[:-1]), index=(*_unfold(at[0], shape[:-1]), at[1]),
        values=(float(a[at]), float(b[at])), off=len(off), off_rows=_first(off, shape),
        reason="other whole numbers",
    )  # fmt: skip


def routing(
    name: str, a: Tensor, b: Tensor, *, keep: Tensor | None = None, axes: tuple[str, ...] = ()
) -> Difference:
    """Of two (..., k) tensors of experts, as sets of a token."""
    shape = tuple(b.shape)
    a, b = (x.reshape(-1, shape[-1]).sort(dim=-1).values for x in (a, b))
    differ = (a != b).any(dim=-1)
    if keep is not None:
        differ &= keep
    counted = len(differ) if keep is None else int(keep.sum())
    off = differ.nonzero()[:, 0]
    if not len(off):
        return Difference(name, beyond=False, rows=counted, axes=axes)
    row = int(off[0])
    index = _unfold(row, shape[:-1])
    exchange = Exchange(*_only(a[row], b[row]))
    return Difference(
        name, beyond=True, relative=len(off) / counted, row_relative=1.0, row=index, rows=counted,
        off=len(off), off_rows=_first(off, shape), axes=axes, reason="other experts",
        exchange=exchange,
    )  # fmt: skip


def exchanged(
    found: Difference, experts: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor],
    keep: Tensor | None = None, groups: int = 1,
) -> Difference:  # fmt: skip
    """What `routing` found, with the scores of the experts of the token that a tie explains least.

    Args:
        found:   Of `routing`.
        experts: What it was asked of, (..., k).
        logits:  (..., E) of both traces.
        keep:    As `routing`.
        groups:  Of experts, of which a token's are taken from some; 1 where it is not known.
    """
    shape, E = tuple(experts[1].shape), logits[1].shape[-1]
    ids = [x.reshape(-1, shape[-1]) for x in experts]
    if E % groups or any(bool(((x < 0) | (x >= E)).any()) for x in ids):
        return found
    chosen = [torch.zeros(len(x), E, dtype=torch.bool).scatter(1, x.long(), True) for x in ids]
    differ = (chosen[0] != chosen[1]).any(dim=1)
    rows = (differ if keep is None else differ & keep).nonzero()[:, 0]
    if not len(rows):  # one expert twice
        return found
    came, left = (chosen[1] & ~chosen[0])[rows], (chosen[0] & ~chosen[1])[rows]  # from A to B
    scores = [x.reshape(-1, E)[rows].double().sigmoid() for x in logits]
    (least, most), moved = _between(scores[1] - scores[0], came, left), scores[1] - scores[0]
    used = [x[rows].view(len(rows), groups, -1).any(dim=2) for x in chosen]
    other_groups = (used[0] != used[1]).any(dim=1)
    most = torch.where(other_groups, 4 * moved.abs().amax(dim=1), most)
    can = (least >= -SCORES) | other_groups
    pick = int(torch.where(can, most, math.inf).argmax())
    margins = [torch.stack(_between(s, came, left)).abs().amax(dim=0)[pick] for s in scores]
    row = int(rows[pick])
    exchange = Exchange(
        *_only(ids[0][row], ids[1][row]), float(margins[0]), float(margins[1]),
        max(0.0, float(most[pick])) if bool(can[pick]) else None, bool(other_groups[pick]),
        int(can.sum()),
    )  # fmt: skip
    return replace(found, row=_unfold(row, shape[:-1]), exchange=exchange)


def _between(x: Tensor, came: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most that one who came is above one who left, in each row."""
    low = [x.masked_fill(~some, math.inf).amin(dim=1) for some in (came, left)]
    high = [x.masked_fill(~some, -math.inf).amax(dim=1) for some in (came, left)]
    return low[0] - high[1], high[0] - low[1]


def _only(a: Tensor, b: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    one, other = set(a.tolist()), set(b.tolist())
    return tuple(sorted(one - other)), tuple(sorted(other - one))


def _chunks(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Rows, widened: the first one's number, and both."""
    step = max(1, CHUNK // max(1, b.shape[1]))
    for first in range(0, len(b), step):
        yield first, a[first : first + step].double(), b[first : first + step].double()


def _gap(x: Tensor, y: Tensor) -> Tensor:
    same = (x == y) | (x.isnan() & y.isnan())
    known = x.isfinite() & y.isfinite()
    return torch.where(same, 0.0, torch.where(known, (x - y).abs(), math.inf))


def _scale(a: Tensor, b: Tensor) -> float:
    """What squares of float64 are divided by, so that they neither overflow nor vanish."""
    if torch.float64 not in (a.dtype, b.dtype):
        return 1.0
    sizes = [
        float(v.nan_to_num(0, 0, 0).abs().max())
        for _, *pair in _chunks(a, b) for v in pair if v.numel()
    ]  # fmt: skip
    return max(sizes, default=1.0) or 1.0


def _ratio(gap: float, size: float) -> float:
    return math.sqrt(gap / size) if size else (math.inf if gap else 0.0)


def _first(rows: Tensor, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(_unfold(row, shape[:-1]) for row in rows[:SHOWN].tolist())


def _unfold(row: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index: list[int] = []
    for size in reversed(shape):
        row, last = divmod(row, size)
        index.insert(0, last)
    return tuple(index)


def _kind(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
