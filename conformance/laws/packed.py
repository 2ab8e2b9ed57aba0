"""Packed sequences are the sequences one by one, in any order, empty ones included."""

import torch

from lingspec.conformance.accuracy.expected import Expected
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import index_of, lengths_of, repacked, select, spans_of
from lingspec.conformance.session import NothingToCheck, Session

ALONE = 7  # of more sequences than this, eight are called alone, the first and last among them
SENTENCE = "packed sequences are the sequences one by one"


def declared(contract: Contract) -> bool:
    """Ops that take cu_seqlens."""
    return contract.algebra.packed is not None


def check(session: Session) -> None:
    """The packed call; each sequence alone; the sequences in reverse."""
    contract, call = session.contract, session.call
    lengths = lengths_of(contract, call)
    if lengths is None:
        raise NothingToCheck("no sequences are packed")
    if not session.expect("packed", session.run(), session.authority, f"packed {lengths}"):
        return
    places = {letter: spans_of(contract, call, letter) or [] for letter in contract.algebra.ends}
    for n in sorted({round(i * (len(lengths) - 1) / ALONE) for i in range(ALONE + 1)}):
        alone = call
        for letter, found in places.items():
            alone = select(contract, alone, letter, slice(*found[n]))
        alone = select(contract, alone, "N", [n])
        for name in contract.algebra.ends.values():
            alone.tensors.pop(name, None)
        taken = {letter: list(range(*found[n])) for letter, found in places.items()}
        want = {name: _part(session, name, taken, [n]) for name in contract.returned(session.call)}
        text = f"sequence {n} of {lengths} alone"
        if not session.expect("packed", session.run(alone), want, text):
            return
    order = list(reversed(range(len(lengths))))
    turned, taken = repacked(
        contract, call, {letter: [found[n] for n in order] for letter, found in places.items()}
    )
    turned = select(contract, turned, "N", order)
    want = {name: _part(session, name, taken, order) for name in contract.returned(session.call)}
    text = f"packed {lengths[::-1]}, the sequences reversed"
    session.expect("packed", session.run(turned), want, text)


def _part(session: Session, name: str, taken: dict[str, list[int]], rows: list[int]) -> Expected:
    for letter, tokens in taken.items():
        axis = index_of(session.contract, name, letter)
        if axis is not None:
            index = torch.tensor(tokens, dtype=torch.int64)
            return session.authority[name][(slice(None),) * axis + (index,)]
    return session.authority[name][torch.tensor(rows, dtype=torch.int64)]
