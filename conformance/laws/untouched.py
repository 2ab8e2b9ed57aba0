"""Inputs untouched, outputs all written, nothing outside them written."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "inputs are untouched, results wholly written, nothing else is"


def declared(_: Contract) -> bool:
    """Every op."""
    return True


def check(session: Session) -> None:
    """With each poison: what was not written would show. Every call compares every input byte.

    And a call of the same shapes with other values, which must leave these results as they are.
    """
    for poison in ("nan", "large"):
        got = session.run(poison=poison)
        session.expect("untouched", got, session.authority, f"with {poison} in unwritten memory")
    floats = [n for n, x in session.call.tensors.items() if x.is_floating_point()]
    if floats:
        first = session.call.tensors[floats[0]]
        negated = (-first.float()).to(first.dtype) if first.itemsize == 1 else -first
        session.run(session.call.with_tensors(**{floats[0]: negated}))
