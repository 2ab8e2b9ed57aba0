"""Adding in an argument adds the results."""

import torch

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session
from lingspec.conformance.values import rng

SENTENCE = "adding in an argument adds the results"


def declared(contract: Contract) -> bool:
    """Ops that are linear in some arguments."""
    return bool(contract.algebra.linear_in)


def check(session: Session) -> None:
    """Split each group of arguments into two parts with disjoint elements: the sum is exact."""
    call, contract = session.call, session.contract
    session.expect("authority", session.run(), session.authority)
    groups = contract.algebra.linear_in
    group = groups[session.case.seed % len(groups)]
    g = rng(session.case.seed, "parts")
    one, two = {}, {}
    for name in group:
        if name in call.tensors:
            x = call.tensors[name]
            mask = torch.rand(x.shape, generator=g) < 0.5
            one[name], two[name] = x * mask, x * ~mask
    calls = [call.with_tensors(**part) for part in (one, two)]
    got = [session.run(c) for c in calls]
    limits = [session.judged(c) for c in calls]
    text = f"{' and '.join(one)} in two parts"
    for results, want in zip(got, limits, strict=True):
        if not session.expect("additivity", results, want, text):
            return
    for name in contract.results:
        if group == ("q",) and name != "o":  # both parts have the same state, not its halves
            continue
        total = got[0][name].double() + got[1][name].double()
        room = limits[0][name].joined(limits[1][name])
        whole = session.authority[name]
        error = (total - whole.value).abs()
        if error.numel() and bool((error > whole.limit + room.limit).any()):
            session.fail(f"{text}: the results do not add up to {name}", law="additivity")
