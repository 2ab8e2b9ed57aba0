"""Members of a batch, and heads, do not see each other: permuted in, permuted out."""

import torch

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import index_of, lengths_of, other_values, select
from lingspec.conformance.session import NothingToCheck, Session
from lingspec.conformance.values import rng

SENTENCE = "batch and heads may be permuted; neighbours do not matter"


def declared(contract: Contract) -> bool:
    """Ops with independent axes."""
    return bool(contract.algebra.independent)


def check(session: Session) -> None:
    """Permute each independent axis, then replace everything but one member of it."""
    contract, case = session.contract, session.case
    session.expect("authority", session.run(), session.authority)
    permuted = False
    for letter in contract.algebra.independent:
        size = _size(session, letter)
        if size < 2 or (letter == "B" and lengths_of(session.call) is not None):
            continue
        permuted = True
        order = torch.randperm(size, generator=rng(case.seed, letter)).tolist()
        if order == sorted(order):
            order = order[1:] + order[:1]
        _compare(
            session,
            letter,
            select(contract, session.call, letter, order),
            order,
            f"{letter} permuted to {order}",
        )
        kept = case.seed % size
        other = contract.make(case.with_(seed=case.seed ^ 0x3C3C))
        mixed = other_values(session.call, other, contract, letter, kept.__eq__)
        _compare(session, letter, mixed, None, f"{letter} {kept} beside other neighbours", kept)
    if not permuted:
        raise NothingToCheck("one head of one batch row has no neighbours")


def _compare(
    session: Session, letter: str, call: Call, order: list[int] | None, text: str, kept: int = 0
) -> None:
    got, want = session.run(call), {}
    for name, limits in session.authority.items():
        axis = index_of(session.contract, name, letter)
        if axis is None:
            if order is not None:  # shared by all members: the same, whatever their order
                want[name] = limits
            continue
        index = torch.tensor(order if order is not None else [kept], dtype=torch.int64)
        want[name] = limits[(slice(None),) * axis + (index,)]
        if order is None:
            got[name] = got[name].index_select(axis, index)
    session.expect("permutation", got, want, text)


def _size(session: Session, letter: str) -> int:
    for name, x in session.call.tensors.items():
        axis = index_of(session.contract, name, letter)
        if axis is not None:
            return x.shape[axis]
    return 0
