"""Agrees with the authority: the results are those of float64, within the declared roundings."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "agrees with the authority"


def declared(_: Contract) -> bool:
    """Every op is held to this."""
    return True


def check(session: Session) -> None:
    """One call, every tensor of it."""
    got = session.run()
    if not session.contract.algebra.bits:
        session.expect("authority", got, session.authority, variants=session.variants)
        return
    for name, want in session.authority.items():
        exact = want.value.to(session.dtype_of(name))
        session.same_bits("authority", got[name], exact, f"{name} has other bits", name)
