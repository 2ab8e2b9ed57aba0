"""Gradients are those of the authority, and so are the results that they are taken of."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "gradients are those of the authority"


def declared(contract: Contract) -> bool:
    """Ops that train."""
    return bool(contract.algebra.differentiable_in)


def check(session: Session) -> None:
    """One backward pass; cotangents may be expanded or not contiguous."""
    contract = session.contract
    names = [n for n in contract.algebra.differentiable_in if n in session.call.tensors]
    results, got = session.gradients(names)
    session.expect("gradients", results, session.authority, "where gradients are asked for")
    session.expect("gradients", got, session.judged(session.call, gradients=True))
