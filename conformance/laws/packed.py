"""Packed sequences are the sequences one by one, in any order, empty ones included."""

import torch

from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import index_of, lengths_of, repacked, select, spans
from lingspec.conformance.session import NothingToCheck, Session

ALONE = 7  # of more sequences than this, eight are called alone, the first and last among them
SENTENCE = "packed sequences are the sequences one by one"


def declared(contract: Contract) -> bool:
    """Ops that take cu_seqlens."""
    return contract.algebra.packed is not None


def check(session: Session) -> None:
    """The packed call; each sequence alone; the sequences in reverse."""
    contract, call = session.contract, session.call
    lengths, letter = lengths_of(call), contract.algebra.packed
    if lengths is None or letter is None:
        raise NothingToCheck("no sequences are packed")
    if not session.expect("packed", session.run(), session.authority, f"packed {lengths}"):
        return
    places = spans(lengths)
    for n in sorted({round(i * (len(places) - 1) / ALONE) for i in range(ALONE + 1)}):
        first, last = places[n]
        alone = select(contract, call, letter, slice(first, last))
        alone = select(contract, alone, "N", [n])
        del alone.tensors["cu_seqlens"]
        want = {
            name: _part(session, name, letter, list(range(first, last)), [n])
            for name in contract.results
        }
        if not session.expect(
            "packed", session.run(alone), want, f"sequence {n} of {lengths} alone"
        ):
            return
    order = list(reversed(range(len(lengths))))
    turned, taken = repacked(contract, call, [places[n] for n in order], letter)
    turned = select(contract, turned, "N", order)
    want = {name: _part(session, name, letter, taken, order) for name in contract.results}
    session.expect(
        "packed", session.run(turned), want, f"packed {lengths[::-1]}, the sequences reversed"
    )


def _part(session: Session, name: str, letter: str, tokens: list[int], rows: list[int]) -> Limits:
    axis = index_of(session.contract, name, letter)
    if axis is not None:
        return session.authority[name][
            (slice(None),) * axis + (torch.tensor(tokens, dtype=torch.int64),)
        ]
    return session.authority[name][torch.tensor(rows, dtype=torch.int64)]
