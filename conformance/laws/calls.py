"""Parts of calls: some tokens, some heads, one sequence; generic over contracts, by letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract

__all__ = [
    "along", "horizon", "index_of", "is_packed", "lengths_of", "other_ends", "other_values",
    "repacked", "select", "size_of", "spans", "spans_of",
]  # fmt: skip

Spans = Sequence[tuple[int, int]]


def index_of(contract: Contract, name: str, letter: str) -> int | None:
    """The position of axis ``letter`` in a tensor, or None. Asked for B, N answers too."""
    spec = next((s for s in (*contract.inputs, *contract.outputs) if s.name == name), None)
    if spec is None:
        return None
    axes = spec.axes.replace("N", "B") if letter == "B" else spec.axes
    place = axes.find(letter)
    return None if place < 0 else place


def size_of(contract: Contract, call: Call, letter: str) -> int:
    """Members of an axis of a call; 0 where no tensor has it."""
    for name, x in call.tensors.items():
        axis = index_of(contract, name, letter)
        if axis is not None:
            return x.shape[axis]
    return 0


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


# -- packed sequences ------------------------------------------------------------------------


def is_packed(contract: Contract, call: Call) -> bool:
    """Whether sequences are laid end to end in ``call``."""
    return any(name in call.tensors for name in contract.algebra.ends.values())


def spans_of(contract: Contract, call: Call, letter: str) -> list[tuple[int, int]] | None:
    """First and last token of each packed sequence along an axis; None where nothing is packed.

    Ends that are not given are those of the first axis that has them.
    """
    ends = contract.algebra.ends
    if not is_packed(contract, call):
        return None
    name = ends[letter] if ends[letter] in call.tensors else next(iter(ends.values()))
    at = call.tensors[name].tolist()
    return list(zip(at, at[1:], strict=False))


def lengths_of(contract: Contract, call: Call) -> list[int] | None:
    """Lengths of the packed sequences; None where nothing is packed."""
    letter = contract.algebra.packed
    found = None if letter is None else spans_of(contract, call, letter)
    return None if found is None else [b - a for a, b in found]


def spans(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """First and last token of each sequence."""
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    return [(a, a + n) for a, n in zip(starts, lengths, strict=True)]


def repacked(
    contract: Contract, call: Call, parts: Mapping[str, Spans]
) -> tuple[Call, dict[str, list[int]]]:
    """The packed call whose sequences are the token spans ``parts`` of each axis.

    Returns:
        The call, and the tokens that it takes, by axis.
    """
    taken, like = {}, None
    for letter, name in contract.algebra.ends.items():
        chosen = parts[letter]
        taken[letter] = [t for a, b in chosen for t in range(a, b)]
        like = call.tensors.get(name, like)
        assert like is not None
        ends = [sum(b - a for a, b in chosen[:n]) for n in range(len(chosen) + 1)]
        also = {name: torch.tensor(ends, dtype=like.dtype)} if name in call.tensors else {}
        call = select(contract, call, letter, taken[letter], **also)
    return call, taken


def other_ends(contract: Contract, call: Call) -> Call | None:
    """The same tokens, cut into sequences elsewhere; None where nothing can be cut elsewhere."""
    given = {n: call.tensors[n] for n in contract.algebra.ends.values() if n in call.tensors}
    found = {n: x.diff() for n, x in given.items()}
    lengths = {n: x.flip(0) for n, x in found.items()}
    if all(torch.equal(lengths[n], x) for n, x in found.items()):
        first = next(iter(found.values()), torch.zeros(0))
        if len(first) < 2 or not bool(first.any()):
            return None
        longest = int(first.argmax())
        for x in lengths.values():  # as many keys as queries move to a neighbour
            x[longest] -= 1
            x[longest - 1] += 1
    ends = {n: x.new_zeros(len(x) + 1) for n, x in lengths.items()}
    for n, x in ends.items():
        x[1:] = lengths[n].cumsum(0)
    return call.with_tensors(**ends)


# -- other values ----------------------------------------------------------------------------


def other_values(
    call: Call, other: Call, contract: Contract, keep: Mapping[str, Callable[[int], bool]]
) -> Call:
    """``call`` with the members of some axes that ``keep`` refuses taken from ``other``.

    Indices stay: where things are is not a value.
    """
    changed = {}
    for letter, kept_of in keep.items():
        for name, x in call.tensors.items():
            axis = index_of(contract, name, letter)
            if axis is None or not x.is_floating_point():
                continue
            if other.tensors[name].shape != x.shape:
                continue
            kept = torch.tensor([kept_of(i) for i in range(x.shape[axis])], dtype=torch.bool)
            shape = [1] * x.dim()
            shape[axis] = -1
            changed[name] = torch.where(kept.reshape(shape), x, other.tensors[name])
    return call.with_tensors(**changed)


def horizon(contract: Contract, call: Call, last: int) -> dict[str, Callable[[int], bool]]:
    """Which members of the causal axis, and of the keys aligned with it, token ``last`` may see."""
    letter, keys = contract.algebra.causal, contract.algebra.aligned
    assert letter is not None
    seen: dict[str, Callable[[int], bool]] = {letter: lambda t: t <= last}
    if keys is None:
        return seen
    T, S = size_of(contract, call, letter), size_of(contract, call, keys)
    end, end_k = T, S
    packed, packed_k = spans_of(contract, call, letter), spans_of(contract, call, keys)
    if packed is not None and packed_k is not None:
        n = next(n for n, (a, b) in enumerate(packed) if a <= last < b)
        end, end_k = packed[n][1], packed_k[n][1]
    newest = end_k - (end - last)  # the key of token `last`
    return {**seen, keys: lambda j: j <= newest}
