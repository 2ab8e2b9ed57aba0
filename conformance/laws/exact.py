"""Exact on integers and powers of two: no rounding happens, so no tolerance is needed.

The contract says which results of a call are exact: every intermediate, in any order of summation,
is then a number that its format holds. Where a declared rounding changes a result of an emulated
honest implementation, it is not exact in that profile. What may hold anything is not compared.
"""

import torch
from torch import Tensor

from lingspec.conformance.accuracy.limits import ANYTHING, Limits
from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "integers come out exactly"


def declared(contract: Contract) -> bool:
    """Ops of which some calls round nothing."""
    return contract.exact is not None


def check(session: Session) -> None:
    """Every bit of every result that the profile leaves exact; the others within limits."""
    got = session.run()
    exact = results(session)
    for name, want in session.authority.items():
        if name not in exact:
            session.expect("exact", got, {name: want})
            continue
        value = want.value.to(session.dtype_of(name))
        found = got[name]
        if isinstance(want, Limits) and found.shape == value.shape:
            anything = (want.limit >= ANYTHING) & found.isfinite()
            found = torch.where(anything, value.to(found.dtype), found)
        session.same_bits("exact", found, value, f"{name} is not exact on integers", name)


def results(session: Session) -> frozenset[str]:
    """The names of the results that nothing declared can round."""
    assert session.contract.exact is not None
    said = session.contract.exact(session.call, session.profile)
    return frozenset(name for name in said if _stays(session, name))


def _stays(session: Session, name: str) -> bool:
    dtype, want = session.dtype_of(name), session.authority[name].value
    made = [v[name] for v in session.variants if name in v]
    return all(_equal(x.to(dtype), want.to(dtype)) for x in made)


def _equal(x: Tensor, y: Tensor) -> bool:
    a, b = x.double(), y.double()
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
