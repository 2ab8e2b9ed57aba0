"""Parts of calls: some tokens, some heads, one sequence; generic over contracts, by letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract

__all__ = ["along", "index_of", "lengths_of", "other_values", "repacked", "select", "spans"]


def index_of(contract: Contract, name: str, letter: str) -> int | None:
    """The position of axis ``letter`` in a tensor, or None. Asked for B, N answers too."""
    spec = next((s for s in (*contract.inputs, *contract.outputs) if s.name == name), None)
    if spec is None:
        return None
    axes = spec.axes.replace("N", "B") if letter == "B" else spec.axes
    place = axes.find(letter)
    return None if place < 0 else place


def along(x: Tensor, axis: int, index: slice | Sequence[int]) -> Tensor:
    """``x`` at ``index`` of ``axis``."""
    if isinstance(index, slice):
        return x[(slice(None),) * axis + (index,)]
    return x.index_select(axis, torch.tensor(list(index), dtype=torch.int64))


def select(
    contract: Contract, call: Call, letter: str, index: slice | Sequence[int], **also: Tensor
) -> Call:
    """The call on the members ``index`` of an axis only."""
    changed = {}
    for name, x in call.tensors.items():
        axis = index_of(contract, name, letter)
        if axis is not None:
            changed[name] = along(x, axis, index)
    return call.with_tensors(**changed, **also)


def lengths_of(call: Call) -> list[int] | None:
    """Lengths of the packed sequences; None where nothing is packed."""
    if "cu_seqlens" not in call.tensors:
        return None
    ends = call.tensors["cu_seqlens"].tolist()
    return [b - a for a, b in zip(ends, ends[1:], strict=False)]


def spans(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """First and last token of each sequence."""
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    return [(a, a + n) for a, n in zip(starts, lengths, strict=True)]


def repacked(
    contract: Contract, call: Call, parts: Sequence[tuple[int, int]], letter: str
) -> tuple[Call, list[int]]:
    """The packed call whose sequences are the token spans ``parts``, and the tokens it takes."""
    taken = [t for a, b in parts for t in range(a, b)]
    ends = [sum(b - a for a, b in parts[:n]) for n in range(len(parts) + 1)]
    cu = torch.tensor(ends, dtype=call.tensors["cu_seqlens"].dtype)
    return select(contract, call, letter, taken, cu_seqlens=cu), taken


def other_values(
    call: Call, other: Call, contract: Contract, letter: str, keep: Callable[[int], bool]
) -> Call:
    """``call`` with the members of an axis that ``keep`` refuses taken from ``other``.

    Indices stay: where things are is not a value.
    """
    changed = {}
    for name, x in call.tensors.items():
        axis = index_of(contract, name, letter)
        if axis is None or not x.is_floating_point() or other.tensors[name].shape != x.shape:
            continue
        kept = torch.tensor([keep(i) for i in range(x.shape[axis])], dtype=torch.bool)
        shape = [1] * x.dim()
        shape[axis] = -1
        changed[name] = torch.where(kept.reshape(shape), x, other.tensors[name])
    return call.with_tensors(**changed)
