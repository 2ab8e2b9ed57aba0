"""Roundings have no direction: over a chain of calls the mean signed error is 0.

A rounding that is never too far, but always the same way, moves a residual stream by percents in a
hundred layers. Each element's error, counted away from zero and in units of what it may be, is a
number between -1 and 1 with mean 0; by Hoeffding the mean of all leaves

    lambda sqrt(sum of squares of what moves on its own) / n,   lambda = sqrt(2 ln(2 / DELTA))

with probability DELTA. The output rounding of every element moves on its own; everything else is
counted as if it were one error for a row. Errors that need not average out (drifts) are added.
"""

import math

from torch import Tensor

from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.contract import Contract
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "roundings have no direction"
CALLS = {2: 6}  # of a chain, by the bytes of a result; of wider ones little can be said
DELTA = 1e-9  # probability that a right chain is refused


def declared(contract: Contract) -> bool:
    """Ops whose results are rounded once, or a few times, to nearest."""
    return bool(contract.algebra.unbiased)


def check(session: Session) -> None:
    """A chain of calls: each takes a result of the one before, where the op says which."""
    contract, case = session.contract, session.case
    total: dict[str, list[tuple[float, float, float, int]]] = {}
    carried: Tensor | None = None
    for n in range(CALLS.get(case.torch_dtype.itemsize, 2)):
        call = session.call if n == 0 else contract.make(case.with_(seed=case.seed + 7919 * n))
        if contract.algebra.chain and carried is not None:
            call = call.with_tensors(**{contract.algebra.chain[1]: carried})
        want = session.judged(call)
        if not all(expected.finite() for expected in want.values()):
            break
        got = session.run(call)
        if not session.expect("authority", got, want):
            return
        for name in contract.algebra.unbiased:
            expected = want[name]
            if isinstance(expected, Limits) and not expected.coherent:
                total.setdefault(name, []).append(_signed(got[name], expected))
        if contract.algebra.chain:
            carried = session.carried(got, want)[contract.algebra.chain[0]]
    if not total:
        raise NothingToCheck("equal inputs repeat, or a value is beyond what the format holds")
    for name, parts in total.items():
        _compare(session, name, parts)


def _signed(got: Tensor, want: Limits) -> tuple[float, float, float, int]:
    """Sums over elements: error, squared independent room, drift; and how many."""
    own = want.output.u * want.value.abs() + want.output.tiny
    rest = want.errors.variance.sqrt().expand(own.shape)
    room = own + rest
    away = (got.double() - want.value) * want.value.sign()
    per_row = (rest / room).sum(-1) if own.dim() else rest / room
    independent = (own / room).square().sum() + per_row.square().sum()
    drift = (want.drift / room).sum()
    return float((away / room).sum()), float(independent), float(drift), own.numel()


def _compare(session: Session, name: str, parts: list[tuple[float, float, float, int]]) -> None:
    error, squares, drift, count = (sum(p[n] for p in parts) for n in range(4))
    if not count:
        return
    limit = (math.sqrt(2 * math.log(2 / DELTA) * squares) + drift) / count
    mean = error / count
    if abs(mean) > limit:
        way = "away from" if mean > 0 else "toward"
        session.fail(
            f"{name} is rounded {way} zero: its errors have a direction", law="bias",
            where=f"{count} elements of {len(parts)} calls",
            got_want=f"mean signed error {mean:+.3f} of the permitted one, limit ±{limit:.3f}",
            excess=abs(mean) / limit,
        )  # fmt: skip
