"""Scaling an argument scales the results."""

import torch

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "scaling an argument scales the results"
# Powers of two: the scaled inputs are exact. The last takes results where 16 bits of float16 end.
FACTORS = (-2.0, 0.5, 4.0, 2.0**20)


def declared(contract: Contract) -> bool:
    """Ops of degree one in some arguments."""
    return bool(contract.algebra.homogeneous_in)


def check(session: Session) -> None:
    """Each group of arguments, by a factor of its own."""
    call = session.call
    formats = {session.case.torch_dtype, *(of.name for of in session.profile.points.values())}
    narrow = bool(formats & {torch.float16, "fp16"})
    factors = FACTORS[:-1] if narrow else FACTORS
    session.expect("authority", session.run(), session.authority)
    compared = 0
    for n, group in enumerate(session.contract.algebra.homogeneous_in):
        factor = factors[(session.case.seed + n) % len(factors)]
        scaled = {name: call.tensors[name] * factor for name in group if name in call.tensors}
        other = call.with_tensors(**scaled)
        want = {
            name: limits.scaled(_degree(group, name) * factor or 1.0)
            for name, limits in session.authority.items()
        }
        if narrow:  # its small numbers and its largest do not scale
            want = session.judged(other)
            if not all(limits.finite() for limits in want.values()):
                continue
        compared += 1
        text = f"{' and '.join(scaled)} times {factor:g}"
        session.expect("homogeneity", session.run(other), want, text)
    if not compared:
        raise NothingToCheck("no scaled result fits its format")


def _degree(group: tuple[str, ...], result: str) -> float:
    """States do not depend on the query."""
    return 0.0 if group == ("q",) and result != "o" else 1.0
