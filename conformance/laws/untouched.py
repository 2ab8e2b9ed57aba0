"""Inputs untouched, outputs all written, nothing outside them written."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "inputs are untouched, results wholly written, nothing else is"


def declared(_: Contract) -> bool:
    """Every op."""
    return True


def check(session: Session) -> None:
    """With each poison: what was not written would show. Every call compares every input byte."""
    for poison in ("nan", "large"):
        got = session.run(poison=poison)
        session.expect("untouched", got, session.authority, f"with {poison} in unwritten memory")
