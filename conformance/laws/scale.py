"""In calls as large as a model makes, members are what they are alone.

The authority of a whole call of that size costs minutes, that of a few rows, heads, sequences next
to nothing; and what is independent is the same in either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import along, index_of, is_packed, select, size_of, spans_of
from lingspec.conformance.session import NothingToCheck, Session
from lingspec.conformance.values import rng

__all__ = ["SENTENCE", "WHOLE", "check", "declared", "few", "told"]

SENTENCE = "a member of a large call is what it is alone"
WHOLE = False  # the authority of the case's own call is not asked
MEMBERS, FEWER = 64, 8  # that are asked, counted over all axes; and of a call with a past
EDGES = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096)  # behind which another tile may begin
Taken = Mapping[str, list[int]]  # by axis, which members of the large call


def declared(contract: Contract) -> bool:
    """Ops with independent axes."""
    return bool(contract.algebra.independent)


def check(session: Session) -> None:
    """The large call; its members against the authority of these alone."""
    contract = session.contract
    got = session.run()
    part, taken = few(contract, session.call, session.case.seed)
    want = session.judged(part)
    if not all(limits.finite() for limits in want.values()):
        raise NothingToCheck("a value or a limit is beyond what the format holds")
    mine = {name: _taken(contract, name, got[name], taken) for name in want}
    session.expect("scale", mine, want, f"of members {told(taken)}; places are among these")


def few(contract: Contract, call: Call, seed: int) -> tuple[Call, Taken]:
    """A call on some members of each independent axis, and which of the call's these are."""
    letters = contract.algebra.independent
    most = FEWER if contract.algebra.stateful else MEMBERS
    each = max(2, round(most ** (1 / len(letters))))
    taken: Taken = {}
    if is_packed(contract, call):
        call, taken = _sequence(contract, call, seed)
        letters = tuple(a for a in letters if a != "B")
    for letter in letters:
        size = size_of(contract, call, letter)
        call, taken = _on(contract, call, taken, letter, _chosen(size, each, seed, letter))
    return _used(contract, *_query(contract, call, taken, seed))


def _on(
    contract: Contract, call: Call, taken: Taken, letter: str, index: list[int]
) -> tuple[Call, Taken]:
    """The call on members of one more axis; of what is taken already, a part."""
    before = taken.get(letter)
    known = index if before is None else [before[i] for i in index]
    return select(contract, call, letter, index), {**taken, letter: known}


def _chosen(size: int, most: int, seed: int, letter: str) -> list[int]:
    """The last, then any and such as stand where a tile ends, in turn."""
    if size <= most:
        return list(range(size))
    g = rng(seed, f"members of {letter}")
    edges = torch.tensor([e - back for e in EDGES for back in (1, 0) if e - back < size])
    near = edges[torch.randperm(len(edges), generator=g)].tolist()
    anywhere = torch.randint(0, size, (most,), generator=g).tolist()
    mixed = [n for pair in zip(anywhere, near, strict=False) for n in pair] + anywhere
    return sorted(list(dict.fromkeys([size - 1, *mixed]))[:most])


def _sequence(contract: Contract, call: Call, seed: int) -> tuple[Call, Taken]:
    """The longest of packed sequences alone, or any."""
    places = {letter: spans_of(contract, call, letter) or [] for letter in contract.algebra.ends}
    lengths = [b - a for a, b in next(iter(places.values()))]
    n = lengths.index(max(lengths)) if seed % 2 else seed // 2 % len(lengths)
    taken: Taken = {}
    for letter, found in places.items():
        call, taken = _on(contract, call, taken, letter, list(range(*found[n])))
    call, taken = _on(contract, call, taken, "N", [n])
    ends = contract.algebra.ends.values()
    tensors = {name: x for name, x in call.tensors.items() if name not in ends}
    return replace(call, tensors=tensors), taken


def _query(contract: Contract, call: Call, taken: Taken, seed: int) -> tuple[Call, Taken]:
    """One query, with the keys that it may see."""
    letter, keys = contract.algebra.causal, contract.algebra.aligned
    if letter is None or keys is None:
        return call, taken
    T, S = size_of(contract, call, letter), size_of(contract, call, keys)
    if T < 2:
        return call, taken
    t = _chosen(T, 2, seed, letter)[seed // 4 % 2]
    call, taken = _on(contract, call, taken, keys, list(range(S - T + t + 1)))
    return _on(contract, call, taken, letter, [t])


def _used(contract: Contract, call: Call, taken: Taken) -> tuple[Call, Taken]:
    """Only the pages, slots, experts that the members point to, numbered anew."""
    for spec in contract.inputs:
        at = call.tensors.get(spec.name)
        if at is None or len(spec.within) != 1 or spec.name in contract.algebra.ends.values():
            continue
        there = (at >= 0) & (at < size_of(contract, call, spec.within))
        kept = torch.unique(at[there])
        anew = torch.where(there, torch.searchsorted(kept, at.contiguous()), -1).to(at.dtype)
        kept = kept.tolist() or [0]
        call, taken = _on(contract, call, taken, spec.within, kept)
        call = call.with_tensors(**{spec.name: anew})
    return call, taken


def _taken(contract: Contract, name: str, x: Tensor, taken: Taken) -> Tensor:
    """What the members of a large call have of one of its results."""
    for letter, index in taken.items():
        axis = index_of(contract, name, letter)
        if axis is not None:
            x = along(x, axis, index)
    return x


def told(taken: Taken) -> str:
    """Which members, in words."""
    return ", ".join(f"{letter} {_numbers(index)}" for letter, index in taken.items())


def _numbers(index: list[int]) -> str:
    if len(index) > 3 and index == list(range(index[0], index[-1] + 1)):
        return f"{index[0]} to {index[-1]}"
    return ", ".join(map(str, index))
