"""Scaling an argument scales the results."""

import torch
from torch import Tensor

from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "scaling an argument scales the results"
# Powers of two: the scaled inputs are exact. Every second one takes results beyond whatever a
# kernel might take for the largest; float16 ends before that.
NEAR, FAR = (-2.0, 0.5, 4.0), 2.0**40
FACTORS = tuple(factor for near in NEAR for factor in (near, FAR))


def declared(contract: Contract) -> bool:
    """Ops of degree one in some arguments."""
    return bool(contract.algebra.homogeneous_in)


def check(session: Session) -> None:
    """Each group of arguments, by a factor of its own."""
    contract, call = session.contract, session.call
    formats = {session.case.torch_dtype, *(of.name for of in session.profile.points.values())}
    narrow = bool(formats & {torch.float16, "fp16"})
    factors = NEAR if narrow else FACTORS
    session.expect("authority", session.run(), session.authority)
    compared = 0
    for n, group in enumerate(contract.algebra.homogeneous_in):
        factor = factors[(session.case.seed + n) % len(factors)]
        present = [a for a in group.arguments if contract.parts.get(a, (a, 0))[0] in call.tensors]
        other = scaled(contract, call, present, factor)
        if narrow:  # its small numbers and its largest do not scale
            want = session.judged(other)
            if not all(expected.finite() for expected in want.values()):
                continue
        else:
            want = {
                name: e.scaled(factor) if name in group.results and isinstance(e, Limits) else e
                for name, e in session.authority.items()
            }
        compared += 1
        text = f"{' and '.join(present)} times {factor:g}"
        session.expect("homogeneity", session.run(other), want, text)
    if not compared:
        raise NothingToCheck("no scaled result fits its format")


def scaled(contract: Contract, call: Call, arguments: list[str], factor: float) -> Call:
    """The call with some arguments, or parts of them, multiplied."""
    changed: dict[str, Tensor] = {}
    for argument in arguments:
        name, axis = contract.parts.get(argument, (argument, None))
        x = changed.get(name, call.tensors[name])
        if axis is None:
            changed[name] = x * factor
        else:
            first, second = x.chunk(2, axis)
            changed[name] = torch.cat([first, second * factor], axis)
    return call.with_tensors(**changed)
