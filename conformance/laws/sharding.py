"""Shards compute their slices: heads spread over 2 or 4 ranks."""

import torch

from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import index_of, select
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "a shard of the heads computes its slice"


def declared(contract: Contract) -> bool:
    """Ops that are sharded along an axis."""
    return contract.algebra.shardable is not None


def check(session: Session) -> None:
    """Every shard, against the slice of the whole."""
    contract, letter = session.contract, session.contract.algebra.shardable
    assert letter is not None
    size = session.case.axes[letter]
    if size < 2:
        raise NothingToCheck(f"{size} head cannot be spread")
    ranks = min(size, 2 if session.case.seed % 2 else 4)
    edges = [size * r // ranks for r in range(ranks + 1)]
    for first, last in zip(edges, edges[1:], strict=False):
        part = list(range(first, last))
        got = session.run(select(contract, session.call, letter, part))
        want = {}
        for name, limits in session.authority.items():
            axis = index_of(contract, name, letter)
            if axis is not None:
                want[name] = limits[(slice(None),) * axis + (torch.tensor(part),)]
        text = f"heads {first} to {last - 1} of {size} as a shard"
        if not session.expect("sharding", got, want, text):
            return
