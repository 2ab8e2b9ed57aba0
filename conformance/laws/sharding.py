"""Shards compute their slices, or parts that add up to the whole: 1, 2 or 4 ranks."""

import torch

from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.contract import Contract, Split
from lingspec.conformance.laws.calls import index_of, select, size_of
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "a shard computes its slice, or its part of a sum"


def declared(contract: Contract) -> bool:
    """Ops that are spread over ranks."""
    return bool(contract.algebra.shardable or contract.splits)


def check(session: Session) -> None:
    """Every shard of every axis, against the slice of the whole; and shards that are added."""
    ranks = 2 if session.case.seed % 2 else 4
    asked = [_slices(session, letter, ranks) for letter in session.contract.algebra.shardable]
    asked += [_sums(session, name, split, ranks) for name, split in session.contract.splits.items()]
    if not any(asked):
        raise NothingToCheck("nothing here can be spread")


def _slices(session: Session, letter: str, ranks: int) -> bool:
    contract = session.contract
    size = size_of(contract, session.call, letter)
    if size < 2:
        return False
    ranks = min(size, ranks)
    edges = [size * r // ranks for r in range(ranks + 1)]
    for first, last in zip(edges, edges[1:], strict=False):
        part = list(range(first, last))
        got = session.run(select(contract, session.call, letter, part))
        want = {}
        for name, limits in session.authority.items():
            axis = index_of(contract, name, letter)
            if axis is not None:
                want[name] = limits[(slice(None),) * axis + (torch.tensor(part),)]
        text = f"{letter} {first} to {last - 1} of {size} as a shard"
        if not session.expect("sharding", got, want, text):
            return True
    return True


def _sums(session: Session, name: str, split: Split, ranks: int) -> bool:
    """Shards one by one, then their sum: the room of it is that of all of them."""
    call = session.call
    got, limits = [], []
    for rank in range(ranks):
        shard = split.shard(call, rank, ranks)
        got.append(session.run(shard))
        limits.append(session.judged(shard))
        text = f"{split.sentence}: rank {rank} of {ranks}"
        if not session.expect("sharding", got[-1], limits[-1], text):
            return True
    for result, whole in session.authority.items():
        assert isinstance(whole, Limits)
        total = sum(part[result].double() for part in got)
        room = sum(e.limit for part in limits if isinstance(e := part[result], Limits))
        error = (total - whole.value).abs()
        if error.numel() and bool((error > whole.limit + room).any()):
            text = f"{split.sentence}: the shards of {ranks} ranks do not add up to {result}"
            session.fail(text, law="sharding", where=name)
    return True
