"""Adding in an argument adds the results."""

import torch
from torch import Tensor

from lingspec.conformance.accuracy.limits import Limits
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
    one: dict[str, Tensor] = {}
    two: dict[str, Tensor] = {}
    for argument in group.arguments:
        name, axis = contract.parts.get(argument, (argument, None))
        if name in call.tensors:
            x = call.tensors[name]
            mask = torch.rand(x.shape, generator=g) < 0.5
            if axis is None:
                one[name], two[name] = x * mask, x * ~mask
            else:  # the first half is in both
                first, second = x.chunk(2, axis)
                _, mask = mask.chunk(2, axis)
                one[name] = torch.cat([first, second * mask], axis)
                two[name] = torch.cat([first, second * ~mask], axis)
    calls = [call.with_tensors(**part) for part in (one, two)]
    got = [session.run(c) for c in calls]
    limits = [session.judged(c) for c in calls]
    text = f"{' and '.join(group.arguments)} in two parts"
    for results, want in zip(got, limits, strict=True):
        if not session.expect("additivity", results, want, text):
            return
    for name in group.results:
        whole, a, b = session.authority[name], limits[0][name], limits[1][name]
        assert isinstance(whole, Limits)
        assert isinstance(a, Limits)
        assert isinstance(b, Limits)
        total = got[0][name].double() + got[1][name].double()
        error = (total - whole.value).abs()
        if error.numel() and bool((error > whole.limit + a.joined(b).limit).any()):
            session.fail(f"{text}: the results do not add up to {name}", law="additivity")
