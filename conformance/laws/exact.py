"""Exact on integers and powers of two: no rounding happens, so no tolerance is needed.

The contract says which results of a call are exact in a profile: every intermediate, in any order
of summation, is then a number that its format holds.
"""

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "integers come out exactly"


def declared(contract: Contract) -> bool:
    """Ops of which some calls round nothing."""
    return contract.exact is not None


def check(session: Session) -> None:
    """Every bit of every result that the profile leaves exact; the others within limits."""
    assert session.contract.exact is not None
    got = session.run()
    exact = session.contract.exact(session.call, session.profile)
    for name, want in session.authority.items():
        if name in exact:
            value = want.value.to(session.dtype_of(name))
            session.same_bits("exact", got[name], value, f"{name} is not exact on integers", name)
        else:
            session.expect("exact", got, {name: want})
