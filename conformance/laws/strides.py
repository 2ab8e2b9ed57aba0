"""Strided views are their contiguous copies, also where an offset passes 2^31."""

from dataclasses import replace

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "strided views are their contiguous copies"


def declared(contract: Contract) -> bool:
    """Every op with tensors."""
    return bool(contract.inputs)


def check(session: Session) -> None:
    """The case's own layout, then a dense copy."""
    layout = session.case.traits["layout"]
    session.expect("strides", session.run(), session.authority, f"{layout} in memory")
    dense = {name: x.contiguous() for name, x in session.call.tensors.items()}
    near = replace(session.call, tensors=dense, far={})
    session.expect("authority", session.run(near), session.authority)
