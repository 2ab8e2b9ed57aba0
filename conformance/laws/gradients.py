"""Gradients are those of the authority, and so are the results that they are taken of."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "gradients are those of the authority"


def declared(contract: Contract) -> bool:
    """Ops that train."""
    return bool(contract.algebra.differentiable_in)


def check(session: Session) -> None:
    """One backward pass, of some results or all, with respect to some inputs or all.

    Cotangents may be expanded or not contiguous.
    """
    results, got = session.gradients()
    session.expect("gradients", results, session.authority, "where gradients are asked for")
    want = session.trained()
    session.expect("gradients", got, want, variants=session.gradient_variants)
