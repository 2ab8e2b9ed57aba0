"""From possible errors to limits: the never-exceed bound and the high-probability limit.

For an output y stored with unit roundoff u_out (0 where it is in its format already), with bound,
spread and drift summed over the rounding points:

    D = u_out |y| + (1 + u_out) bound      never exceeded
    L = u_out |y| + (1 + u_out) (|drift| + lambda sqrt(spread))
                                           exceeded with probability delta by independent roundings
                                           (Hoeffding), lambda = sqrt(2 ln(2 N / delta))

The limit is the smaller one, or D alone where equal inputs repeat (their roundings are equal too,
so nothing averages out).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.errors import Errors
from lingspec.conformance.accuracy.formats import Format
from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.accuracy.running import Running, running

if TYPE_CHECKING:
    from lingspec.conformance.accuracy.verdict import Problem

__all__ = ["ANYTHING", "DELTA", "Limits", "limits"]

ANYTHING = 1e300  # the limit of what may hold any finite number
# A limit that is so large, and beyond all values of the tensor, says nothing, though it should.
# Where none is known, `UNKNOWN` and `STEEPEST` stand for it, which are 1e10 times as large: beside
# values below 1e20 it is seen through factors down to 1e-10.
VACUOUS = 1e20
DELTA = 1e-6  # probability that any element of a right tensor leaves L
SQUARED = 2.0**-960  # smaller squares of errors underflow: only the bound is known


@dataclass(frozen=True)
class Limits:
    """What one output must be, and how far from it is too far. All float64, one shape."""

    name: str
    value: Tensor
    bound: Tensor  # D
    likely: Tensor  # L
    deviation: Tensor  # s: the standard deviation of independent, even roundings
    drift: Tensor  # |drift| over deviation-free errors
    errors: Errors  # by rounding point
    output: Format
    coherent: bool
    heads: int | None = None  # the axis of heads; the last one is that of a row

    @property
    def limit(self) -> Tensor:
        """The limit of each element."""
        return self.bound if self.coherent else torch.minimum(self.bound, self.likely)

    def __getitem__(self, index: Any) -> Limits:
        """The limits of a part of the tensor."""
        return self._each(lambda x: x[index], self.errors[index])

    def scaled(self, factor: float) -> Limits:
        """The limits of the tensor times ``factor``."""
        by = abs(factor)
        errors = self.errors.scaled(lambda e: e * by, lambda e: e * by**2, lambda e: e * factor)
        return replace(self._each(lambda x: x * by, errors), value=self.value * factor)

    def placed(self, whole: Tensor, index: Tensor, elsewhere: float) -> Limits:
        """These as rows ``index`` of ``whole``; other rows keep its values, with one limit."""

        def place(x: Tensor, fill: Tensor) -> Tensor:
            fill = fill.clone()
            fill[index] = x
            return fill

        room = torch.full_like(whole, elsewhere)
        none = torch.zeros_like(whole)
        return replace(
            self, value=place(self.value, whole), bound=place(self.bound, room),
            likely=place(self.likely, room), deviation=place(self.deviation, none),
            drift=place(self.drift, none), errors=self.errors.map(lambda x: place(x, none)),
        )  # fmt: skip

    def joined(self, other: Limits) -> Limits:
        """The value of this, with the room of both: for a sum of two results."""
        return replace(
            self, bound=self.bound + other.bound, likely=self.likely + other.likely,
            deviation=self.deviation + other.deviation, drift=self.drift + other.drift,
        )  # fmt: skip

    def _each(self, f: Callable[[Tensor], Tensor], errors: Errors) -> Limits:
        return replace(
            self, value=f(self.value), bound=f(self.bound), likely=f(self.likely),
            deviation=f(self.deviation), drift=f(self.drift), errors=errors,
        )  # fmt: skip

    def finite(self) -> bool:
        """Whether the case can be judged at all: a right result is finite in its format."""
        # what may err beyond the largest number may be infinite in a right result
        most = self.value.abs() + self.limit.masked_fill(self.limit >= ANYTHING, 0.0)
        fits = (most <= self.output.largest) | (self.value == -torch.inf)
        sizes = self.value.abs().masked_fill(~self.value.isfinite(), 0.0)
        largest = max(VACUOUS, float(sizes.max())) if sizes.numel() else VACUOUS
        says = (self.limit < largest) | ((self.limit >= ANYTHING) & self.limit.isfinite())
        return bool(says.all() and fits.all())  # false for NaN

    def problem(
        self, got: Tensor, dtype: torch.dtype, variants: Sequence[Tensor] = (),
        results: Mapping[str, Tensor] | None = None,  # noqa: ARG002 - numbers stand alone
    ) -> Problem | None:  # fmt: skip
        """The first thing that is wrong with ``got``, or None."""
        return verdict.judge(got, self, dtype, variants)

    def worst(self, got: Tensor, results: Mapping[str, Tensor] | None = None) -> float:  # noqa: ARG002 - likewise
        """The largest error, in limits."""
        over = verdict.excess(verdict.error(got, self), self)
        return float(over.max()) if over.numel() else 0.0

    def typical(self, got: Tensor, results: Mapping[str, Tensor] | None = None) -> float:  # noqa: ARG002 - likewise
        """The mean error, in limits."""
        over = verdict.excess(verdict.error(got, self), self)
        return float(over.nan_to_num(posinf=1e3).clamp(max=1e3).mean()) if over.numel() else 0.0

    def signal(self) -> bool:
        """Whether limits are small beside values: this can tell a wrong result."""
        return verdict.signal(self)

    def share(self, point: str, at: tuple[int, ...]) -> float:
        """The part of ``point`` in the limit of one element, as an absolute error."""
        if point == "output":
            return self.output.u * abs(float(self.value[at]))
        e = self.errors.points[point]
        return float(e.bound[at]) if self.coherent else self._lam() * math.sqrt(float(e.spread[at]))

    def origin(self, at: tuple[int, ...]) -> str:
        """Where the limit of one element comes from, largest part first, in words."""
        shares = {point: self.share(point, at) for point in ("output", *self.errors.points)}
        total = sum(shares.values()) or 1.0
        order = sorted(shares, key=lambda p: -shares[p])
        return ", ".join(f"{p} {shares[p] / total:.0%}" for p in order if shares[p] >= 0.01 * total)

    def described(self) -> dict[str, Any]:
        """Its size, its limits and where the largest comes from."""
        y = self.value
        if y.numel() == 0:
            return {"shape": list(y.shape)}
        rms = float(y[y.isfinite()].square().mean().sqrt())
        at = tuple(int(i) for i in torch.unravel_index(self.limit.argmax(), y.shape))
        median = float(self.limit.median())
        return {
            "shape": list(y.shape),
            "rms": f"{rms:.4g}",
            "median limit": f"{median:.3g}" + (f" ({median / rms:.2%} of the RMS)" if rms else ""),
            "largest limit": f"{float(self.limit[at]):.3g} at {list(at)}",
            "from": self.origin(at),
            "statistics": "no: equal inputs repeat" if self.coherent else "yes",
        }

    def _lam(self) -> float:
        return _lambda(self.value.numel())


def _lambda(elements: int) -> float:
    return math.sqrt(2 * math.log(2 * max(elements, 1) / DELTA))


def limits(
    name: str,
    formulations: Iterable[Running | Tensor],
    profile: Profile,
    output: Format,
    *,
    coherent: bool,
    heads: int | None = None,
) -> Limits:
    """Join what several formulations of one output say: the larger error at every point.

    An implementation may sum in the order of any of them, or mix them.
    """
    forms = [running(f, profile) for f in formulations]
    first = forms[0]
    errors = reduce(Errors.larger, (form.errors.expand(first.shape) for form in forms))
    zero = first.value.new_zeros(first.shape)
    bound, spread = errors.reach + zero, errors.variance + zero
    drift = sum((e.drift.abs() for e in errors.points.values() if e.drift is not None), zero)
    own = (
        2.0 if profile.arithmetic.u < 2.0**-50 else 1.0
    )  # the authority errs as much as a float64 candidate
    bound, spread, drift = own * bound, own**2 * spread, own * drift

    y = first.value.abs().nan_to_num(posinf=0.0)  # -inf is exact
    stored = output.u * y * _stores(forms, output) + output.tiny
    room = 1 + output.u  # the output rounding is of the value that errs
    likely = torch.where(spread < SQUARED, bound, drift + _lambda(y.numel()) * spread.sqrt())
    return Limits(
        name=name,
        value=first.value,
        bound=stored + room * bound,
        likely=stored + room * likely,
        deviation=((stored.square() + spread) / 3).sqrt(),
        drift=drift,
        errors=errors,
        output=output,
        coherent=coherent,
        heads=heads,
    )


def _stores(forms: Sequence[Running], output: Format) -> Tensor:
    """1 where storing a result rounds it, 0 where it is in its format already.

    That is where the last thing done was a rounding as coarse, whether an implementation takes it
    or not; and where nothing was done at all: inputs that are only moved.
    """
    held = [f.held for f in forms]
    coarse = all(h is not None and h.u >= output.u and h.largest <= output.largest for h in held)
    y = forms[0].value
    if coarse:
        return torch.zeros_like(y)
    touched = sum((f.errors.reach for f in forms), torch.zeros_like(y)) > 0
    return (touched | (output.cast(y) != y)).double()


from lingspec.conformance.accuracy import verdict  # noqa: E402 - which judges by limits
