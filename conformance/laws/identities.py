"""The same thing, said otherwise: a split merged, a key twice, the other form."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.invariance import related
from lingspec.conformance.session import Session

SENTENCE = "the same thing said otherwise gives the same"


def declared(contract: Contract) -> bool:
    """Ops with relations of this kind."""
    return any(r.kind == "identities" for r in contract.relations.values())


def check(session: Session) -> None:
    """Every identity that says something of the case's call."""
    related(session, "identities")
