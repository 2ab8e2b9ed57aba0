"""Functions of running numbers: what an error of the argument does to the result.

A function that rises or falls throughout moves by no more than its values at the ends of what the
argument may be. Its own evaluation errs by the profile's ``function_error``, which may be the same
way every time: approximate units are biased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy import running as base
from lingspec.conformance.accuracy.errors import same
from lingspec.conformance.accuracy.formats import Format
from lingspec.conformance.accuracy.logsum import logsumexp
from lingspec.conformance.accuracy.running import ARITHMETIC, Running, running

__all__ = [
    "FUNCTION", "KNOWN", "base_two", "cos", "exp", "log", "logsumexp", "reciprocal", "rsqrt",
    "sigmoid", "sin",
]  # fmt: skip

# Where an error may reach a pole, nothing is known any more; what is known in all likelihood stays,
# so the bound must remain a number.
STEEPEST = 1e30
LARGEST = 1e150  # of a slope that is known: its square is a number
LOG2_E = Decimal("1.442695040888963407359924681001892137")
FUNCTION = "function"  # the point at which exp, log, roots, quotients and sigmoids round


def exp(x: Running) -> Running:
    """The argument is scaled to base 2, and may have been scaled before."""
    return exp_of(rescaled(x))


def exp_of(x: Running) -> Running:
    """Of an argument as it is, or whose scaling was accounted for."""
    return _mapped(x, torch.exp, relative=1.0)


def log(x: Running) -> Running:
    """Near 1 the result is small and its error is not: half of it is absolute."""
    return _mapped(x, torch.log, relative=1.0, absolute=1.0, least=0.0)


def rsqrt(x: Running) -> Running:
    """1 / sqrt(x), of x > 0."""
    return _mapped(x, torch.rsqrt, relative=1.0, least=torch.finfo(torch.float64).tiny)


def reciprocal(x: Running) -> Running:
    """1 / x, of x > 0 or x < 0."""
    sign = x.value.sign()
    size = _mapped(
        replace(x, value=x.value.abs()), torch.reciprocal, relative=1.0,
        least=torch.finfo(torch.float64).tiny,
    )  # fmt: skip
    errors = size.errors.scaled(same, same, lambda drift: sign * drift)
    return replace(size, value=sign * size.value, errors=errors)


def sigmoid(x: Running) -> Running:
    """1 / (1 + exp(-x)): an exponential, a sum and a quotient.

    Where the profile has a format for its steps, each of the three rounds by no more than of the
    result (an exponential moves it by less than of itself); what 1 - y rounds is the reference's.
    """
    made = _mapped(rescaled(x, 1), torch.sigmoid, relative=2.0)
    form = x.profile.points.get("sigmoid")
    if form is not None:
        step = form.u * made.value + form.tiny
        made._add("sigmoid", 3 * step, 3 * step.square())
    return made._rounded_arithmetic(1)


def cos(x: Running) -> Running:
    """Half of its own error is of itself, half is absolute: what is near 0 is a difference."""
    return _wave(x, x.value.cos(), -x.value.sin())


def sin(x: Running) -> Running:
    """As `cos`."""
    return _wave(x, x.value.sin(), x.value.cos())


def _wave(x: Running, value: Tensor, slope: Tensor) -> Running:
    """A function between -1 and 1 whose first two derivatives are too; ``slope`` is the first."""
    reach = x.errors.reach
    likely = torch.minimum(x.deviation(), reach)

    def steepest(by: Tensor) -> Tensor:
        """Per unit of the argument, over a distance of ``by``; nothing leaves [-1, 1]."""
        most = (slope.abs() + by / 2).clamp(max=1.0)
        return torch.where(by * most > 1 + value.abs(), (1 + value.abs()) / by, most)

    most, mostly = steepest(reach), steepest(likely)
    signed = mostly * torch.where(slope < 0, -1.0, 1.0)
    errors = x.errors.scaled(
        lambda e: e * most, lambda e: e * mostly.square(), lambda e: e * signed
    )
    made = Running(value, x.profile, value.abs(), value.abs(), errors)
    own = x.profile.function_error * (value.abs() + 1) / 2
    made._add(FUNCTION, own, own.square(), own)
    return made


def logaddexp(a: Any, b: Any) -> Running:
    """`logsumexp` of two."""
    first = a if isinstance(a, Running) else b
    both = [running(x, first.profile) for x in (a, b)]
    stacked: Running = base._joined(torch.stack, both, dim=-1)
    return logsumexp(stacked, -1)


def rescaled(x: Running, roundings: int = 2) -> Running:
    """``x`` as the argument of an exponential: some roundings more, of the last to base 2."""
    form = x.profile.arithmetic
    error = (roundings * form.u + base_two(form)) * x.value.abs().nan_to_num(posinf=0.0)
    made = replace(x, held=None)
    made._add(ARITHMETIC, error, error.square())
    return made


@cache
def base_two(form: Format) -> float:
    """What log2(e) errs by, as a part of itself, where it is held in ``form``."""
    held = form.cast(torch.tensor(float(LOG2_E), dtype=torch.float64))
    return abs(float(Decimal(held.item()) / LOG2_E - 1))


def _mapped(
    x: Running, f: Callable[[Tensor], Tensor], *, relative: float, absolute: float = 0.0,
    least: float | None = None, upward: bool = False,
) -> Running:  # fmt: skip
    """``f`` of a running number; ``least`` is where the domain of ``f`` begins.

    ``upward`` says that the result falls no further than it may rise.
    """
    value = f(x.value)
    reach = x.errors.reach
    likely = torch.minimum(x.deviation(), reach)

    def steepest(by: Tensor) -> Tensor:
        """How far the result moves for each unit that the argument moves, at most."""
        moved = (f(x.value + by) - value).abs()
        if not upward:
            low = x.value - by
            low = low if least is None else low.clamp(min=least)
            moved = torch.maximum(moved, (f(low) - value).abs())
        slope = torch.where(moved.isfinite(), (moved / by).clamp(max=LARGEST), STEEPEST)
        return torch.where((by > 0) & (moved > 0), slope, 0.0)

    most, mostly = steepest(reach), steepest(likely)
    rising = f(x.value + reach.clamp(min=1e-9)) >= value
    signed = torch.where(rising, mostly, -mostly)
    errors = x.errors.scaled(
        lambda e: times(e, most), lambda e: times(e, mostly.square()), lambda e: e * signed
    )
    size = value.abs().nan_to_num(posinf=0.0)
    made = Running(value, x.profile, size, size, errors)
    own = x.profile.function_error * (relative * size + absolute)
    own = torch.where(value.isfinite(), own, 0.0)
    made._add(FUNCTION, own, own.square(), own)
    return made


def times(error: Tensor, slope: Tensor) -> Tensor:
    """0 where the slope is 0, whatever the error."""
    return torch.where(slope == 0, torch.zeros(()).double(), error * slope)


KNOWN: dict[Any, Callable[..., Running]] = {
    torch.exp: exp, torch.log: log, torch.rsqrt: rsqrt, torch.sigmoid: sigmoid,
    torch.cos: cos, torch.sin: sin, torch.logaddexp: logaddexp, torch.logsumexp: logsumexp,
    torch.reciprocal: reciprocal,
}  # fmt: skip
