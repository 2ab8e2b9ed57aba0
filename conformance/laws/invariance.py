"""What changes nothing, or shifts a result by a known amount."""

from lingspec.conformance.contract import Contract, Relation
from lingspec.conformance.session import NothingToCheck, Session
from lingspec.conformance.values import rng

SENTENCE = "what changes nothing changes nothing"


def declared(contract: Contract) -> bool:
    """Ops with relations of this kind."""
    return any(r.kind == "invariance" for r in contract.relations.values())


def check(session: Session) -> None:
    """Every invariance that says something of the case's call."""
    related(session, "invariance")


def related(session: Session, kind: str) -> None:
    """The call, and each call that a relation makes of it.

    What the relation says of the results holds for the authority, by a test; so each call is held
    to its own authority.
    """
    session.expect("authority", session.run(), session.authority)
    asked = [_asked(session, r) for r in session.contract.relations.values() if r.kind == kind]
    if not any(asked):
        raise NothingToCheck("no relation says anything of this call")


def _asked(session: Session, relation: Relation) -> bool:
    other = relation.make(session.call, rng(session.case.seed, relation.sentence))
    if other is None:
        return False
    want = session.judged(other)
    if not all(expected.finite() for expected in want.values()):
        return False
    session.expect(relation.kind, session.run(other), want, relation.sentence)
    return True
