"""What is not read may be anything: finite for everybody, NaN for who says so."""

import torch
from torch import Tensor

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import NothingToCheck, Session
from lingspec.conformance.values import rng

SENTENCE = "what is not read may be anything"


def declared(contract: Contract) -> bool:
    """Ops that leave some of their input alone."""
    return contract.unread is not None


def check(session: Session) -> None:
    """The call, then others there: the largest numbers, small ones, and NaN.

    Every bit stays, for a candidate that gives the same bits twice.
    """
    contract, call = session.contract, session.call
    assert contract.unread is not None
    places = {n: mask for n, mask in contract.unread(call).items() if bool(mask.any())}
    if not places:
        raise NothingToCheck("every element is read")
    once = session.run()
    session.expect("authority", once, session.authority)
    kinds = ["the largest numbers", "small numbers"] + ["NaN"] * session.candidate.nan_safe
    for kind in kinds:
        changed = {n: _filled(session, call.tensors[n], places[n], kind) for n in places}
        again = session.run(call.with_tensors(**changed))
        text = f"{kind} in {' and '.join(places)}, where nothing is read"
        written = contract.mutable & places.keys()  # what was there stays there
        want = {n: e for n, e in session.authority.items() if n not in written}
        if not session.expect("unread", again, want, text):
            return
        for name in want if session.candidate.deterministic else ():
            session.same_bits("unread", again[name], once[name], f"{text}, change {name}", name)


def _filled(session: Session, x: Tensor, mask: Tensor, kind: str) -> Tensor:
    """``x`` with other contents where ``mask``."""
    g = rng(session.case.seed, kind)
    if x.is_floating_point():
        largest = torch.finfo(x.dtype).max
        sign = 2.0 * torch.randint(0, 2, x.shape, generator=g).double() - 1
        fill = {"the largest numbers": largest * sign, "small numbers": 0.5 * sign,
                "NaN": torch.nan * sign}[kind]  # fmt: skip
    else:
        ends = torch.iinfo(x.dtype)
        fill = torch.tensor([ends.min, ends.max, -1, 0], dtype=x.dtype)
        fill = fill[torch.randint(0, 4, x.shape, generator=g)]
        if kind == "small numbers":
            fill = torch.zeros_like(fill)
    return torch.where(mask, fill.to(x.dtype), x)
