"""Members of a batch, heads, rows do not see each other: permuted in, permuted out."""

import torch
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import index_of, is_packed, other_values, select, size_of
from lingspec.conformance.session import NothingToCheck, Session
from lingspec.conformance.values import rng

SENTENCE = "what is independent may be permuted; neighbours do not matter"


def declared(contract: Contract) -> bool:
    """Ops with independent axes."""
    return bool(contract.algebra.independent)


def check(session: Session) -> None:
    """Permute each independent axis, then replace everything but one member of it."""
    contract, case = session.contract, session.case
    base = session.run()
    session.expect("authority", base, session.authority)
    permuted = False
    for letter in contract.algebra.independent:
        size = size_of(contract, session.call, letter)
        if size < 2 or (letter == "B" and is_packed(contract, session.call)):
            continue
        permuted = True
        order = torch.randperm(size, generator=rng(case.seed, letter)).tolist()
        if order == sorted(order):
            order = order[1:] + order[:1]
        turned = select(contract, session.call, letter, order)
        _compare(session, base, letter, turned, order, f"{letter} permuted to {order}")
        kept = case.seed % size
        other = contract.make(case.with_(seed=case.seed ^ 0x3C3C))
        mixed = other_values(session.call, other, contract, {letter: kept.__eq__})
        text = f"{letter} {kept} beside other neighbours"
        _compare(session, base, letter, mixed, None, text, kept)
        if letter == "B" and session.candidate.batch_invariant:
            _alone(session, base, kept)
    if not permuted:
        raise NothingToCheck("nothing here has a neighbour")


def _compare(
    session: Session, base: dict[str, Tensor], letter: str, call: Call, order: list[int] | None,
    text: str, kept: int = 0,
) -> None:  # fmt: skip
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
            got = {n: x.index_select(axis, index) if n == name else x for n, x in got.items()}
        if letter == "B" and session.candidate.batch_invariant:
            same = base[name].index_select(axis, index)
            said = f"{text}: batch_invariant=True, but {name} has other bits"
            session.same_bits("permutation", got[name], same, said, name)
    session.expect("permutation", got, want, text)


def _alone(session: Session, base: dict[str, Tensor], kept: int) -> None:
    """A row alone is bitwise the row in a batch, where the candidate says so.

    A single row may be contiguous where rows beside each other were not: a right kernel takes
    another path for it, and says nothing untrue.
    """
    contract = session.contract
    call = select(contract, session.call, "B", [kept])
    got = session.run(call)
    before = session.call.tensors
    if any(x.is_contiguous() != before[n].is_contiguous() for n, x in call.tensors.items()):
        return
    for name in session.authority:
        axis = index_of(contract, name, "B")
        if axis is not None:
            same = base[name].narrow(axis, kept, 1)
            said = f"batch row {kept} alone: batch_invariant=True, but {name} has other bits"
            session.same_bits("permutation", got[name], same, said, name)
