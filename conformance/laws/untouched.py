"""Inputs untouched, outputs all written, nothing outside them written."""

import torch

from lingspec.conformance.contract import Contract
from lingspec.conformance.integrity import unwritten
from lingspec.conformance.runner.arena import identical
from lingspec.conformance.runner.poison import FLOATS
from lingspec.conformance.session import Session

SENTENCE = "inputs are untouched, results wholly written, nothing else is"


def declared(_: Contract) -> bool:
    """Every op."""
    return True


def check(session: Session) -> None:
    """With each poison: what was not written would show. Every call compares every input byte.

    What was returned is looked at again, in some cases a moment later; a result of which nothing
    was written was not computed. And a call of the same shapes with values in another order, which
    must leave these results as they are.
    """
    runs = []
    for poison in ("nan", "large"):
        runs.append(session.run(poison=poison))
        text = f"with {poison} in unwritten memory"
        session.expect("untouched", runs[-1], session.authority, text)
    session.settle(late=True)
    before, got = runs
    for name in session.contract.returned(session.call):
        # A right result may be what fills memory; it is so whatever does.
        same = identical(before[name], got[name])
        if not same and unwritten(got[name], FLOATS["large"]):
            text = f"no element of {name} was written"
            session.fail(text, law="untouched", status="REJECTED")
    floats = [n for n, x in session.call.tensors.items() if x.is_floating_point()]
    if floats:
        first = session.call.tensors[floats[0]]
        bits = first.view(torch.uint8) if first.itemsize == 1 else first
        turned = bits.flip(tuple(range(first.dim()))).view(first.dtype)
        session.run(session.call.with_tensors(**{floats[0]: turned}))
