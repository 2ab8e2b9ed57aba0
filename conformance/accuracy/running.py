"""Running error analysis: numbers that carry what may have gone wrong with them.

A `Running` tensor is put in the place of an input; the lines of the reference then compute, beside
each value, how far an implementation that rounds at the named points may be from it. Per point:

    bound   what is never exceeded, whatever the order of summation: terms of absolute values
    spread  the sum of squared possible errors of independent roundings
    drift   the signed sum of errors that do not average out: a truncation, or one rounded constant
            used at every step

Every rounding is of a value that already errs, and every product of two such: bounds are carried
with what the other factor may reach at most, spreads with what it may reach likely, and drifts with
what it becomes when all of them come true. Nothing of second order is left out, and no op is
analysed by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.formats import Format, of_dtype
from lingspec.conformance.accuracy.moves import Errors, Moves
from lingspec.conformance.accuracy.profiles import SPECIFIED, Profile

__all__ = ["ARITHMETIC", "LAMBDA", "Errors", "Running", "analysing", "plain", "running", "stored"]

ARITHMETIC = "arithmetic"  # the point at which every sum and product rounds
# An intermediate leaves LAMBDA sqrt(spread) with probability 2 exp(-LAMBDA^2 / 2) = 2.5e-14
# (Hoeffding): 4e7 of them all stay inside with 1 - 1e-6, ten times as many with 1 - 1e-5.
LAMBDA = 8.0
# Points of results of exp and powers, and of numbers that are computed once and then held: both
# are used again and again, so what they err by does not average out.
EVALUATED = frozenset({"decay", "frequency"})
CONSTANTS = frozenset({"end"})
# A bound beyond this says nothing, and stays a number so that what is likely can still be said.
UNKNOWN = 1e30
# Points of results that every implementation forms: what it computes of them is not distributed
# over the sums that they were made of.
SETTLED = frozenset({*SPECIFIED, "output", "score"})


def _merge(a: dict[str, Errors], b: dict[str, Errors]) -> dict[str, Errors]:
    merged = dict(a)
    for point, errors in b.items():
        merged[point] = merged[point].plus(errors) if point in merged else errors
    return merged


@dataclass(eq=False)
class Running(Moves):
    """A float64 tensor with its magnitudes and its possible errors."""

    # -- what an implementation may have in its place ----------------------------------------

    def at_most(self) -> Tensor:
        """No partial sum exceeds this, in any order, whatever the roundings."""
        return sum((e.bound for e in self.errors.values()), self.magnitude)

    def likely(self) -> Tensor:
        """The size that independent roundings do not exceed."""
        return self.size + self.deviation()

    def deviation(self) -> Tensor:
        """What independent roundings do not move the value by."""
        none = self.value.new_zeros(())
        spread = sum((e.spread for e in self.errors.values()), none)
        return self._drift().abs() + LAMBDA * spread.sqrt()

    def _single(self) -> Tensor:
        """Where nothing was added up to make this."""
        return self.magnitude <= self.value.abs() * (1 + 2.0**-50)

    def drifted(self) -> Tensor:
        """The value with all drifts in it."""
        return self.value + self._drift()

    def _drift(self) -> Tensor:
        drifts = [e.drift for e in self.errors.values() if e.drift is not None]
        return sum(drifts, self.value.new_zeros(()))

    # -- arithmetic --------------------------------------------------------------------------

    def __mul__(self, other: Any) -> Running:
        return _product(self, running(other, self.profile), torch.mul, terms=1)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Running:
        return self * running(other, self.profile).reciprocal()

    def __matmul__(self, other: Any) -> Running:
        return _product(self, running(other, self.profile), torch.matmul, self.shape[-1])

    def __rmatmul__(self, other: Any) -> Running:
        return running(other, self.profile) @ self

    def __neg__(self) -> Running:
        errors = {
            p: replace(e, drift=None if e.drift is None else -e.drift)
            for p, e in self.errors.items()
        }
        return replace(self, value=-self.value, errors=errors)

    def __sub__(self, other: Any) -> Running:
        return self + -running(other, self.profile)

    def __rsub__(self, other: Any) -> Running:
        return running(other, self.profile) + -self

    def __add__(self, other: Any) -> Running:
        b = running(other, self.profile)
        value = self.value + b.value
        none = torch.zeros_like(value)
        size = torch.maximum(torch.maximum(self.size, b.size), value.abs().nan_to_num(posinf=0.0))
        errors = {
            point: e if e.bound.shape == value.shape else e.map(lambda x: x.expand(value.shape))
            for point, e in _merge(self.errors, b.errors).items()
        }
        magnitude = self.magnitude + b.magnitude + none
        result = Running(value, self.profile, magnitude, size, errors)
        # The sum of two numbers that are no sums themselves has no other partial sum.
        alone = (self._single() & b._single()).expand(value.shape)
        most = result.at_most()
        own = most - magnitude + value.abs().nan_to_num(posinf=0.0)
        return result._rounded_arithmetic(1, torch.where(alone, own, most))

    __radd__ = __add__

    def sum(self, dim: int, *, keepdim: bool = False) -> Running:
        terms = self.shape[dim]
        whole = self._each(lambda x: x)
        value = self.value.sum(dim, keepdim)
        errors = {point: e.map(lambda x: x.sum(dim, keepdim)) for point, e in whole.errors.items()}
        magnitude = self.magnitude.sum(dim, keepdim)
        result = Running(value, self.profile, magnitude, value.abs(), errors)
        return result._rounded_arithmetic(terms)

    def mean(self, dim: int, *, keepdim: bool = False) -> Running:
        return self.sum(dim, keepdim=keepdim) * (1 / max(self.shape[dim], 1))

    def settled(self) -> Running:
        """This, as one number: no sum that it was made of is taken apart any more."""
        size = self.value.abs().nan_to_num(posinf=0.0)
        errors = {
            point: replace(e, bound=e.bound.clamp(max=UNKNOWN)) for point, e in self.errors.items()
        }
        return replace(self, magnitude=size, size=size, errors=errors)

    def square(self) -> Running:
        """Both factors err alike: 2 |x| e + e^2."""
        x = self.settled()
        most, likely = x.at_most() + x.magnitude, (x.size + x.likely()).square()
        errors = {
            point: Errors(
                e.bound * most, e.spread * likely,
                None if e.drift is None else e.drift * (x.value + x.drifted()),
            )
            for point, e in x.errors.items()
        }  # fmt: skip
        size = x.size.square()
        made = Running(x.value.square(), x.profile, size, size, errors)
        return made._rounded_arithmetic(terms=1)

    def exp(self) -> Running:
        return functions.exp(self)

    def reciprocal(self) -> Running:
        return functions.reciprocal(self)

    def cos(self) -> Running:
        return functions.cos(self)

    def sin(self) -> Running:
        return functions.sin(self)

    def logsumexp(self, dim: int, *, keepdim: bool = False) -> Running:
        return functions.logsumexp(self, dim, keepdim=keepdim)

    def _rounded_arithmetic(self, terms: int, most: Tensor | None = None) -> Running:
        """The error of adding ``terms`` terms in any order: n u / (1 - n u), of what they reach."""
        form = self.profile.arithmetic
        most = self.at_most() if most is None else most
        likely = torch.minimum(most, self.magnitude + self.deviation())
        step, mostly = (
            (form.u * reached + form.tiny) / (1 - terms * form.u) for reached in (most, likely)
        )
        self._add(ARITHMETIC, Errors(terms * step, terms * mostly.square()))
        return self

    def _add(self, point: str, errors: Errors) -> None:
        self.errors = _merge(self.errors, {point: errors})

    # -- rounding points ---------------------------------------------------------------------

    def rounded(self, point: str, form: Format, *, constant: bool = False) -> Running:
        """This, possibly rounded to ``form``; a ``constant`` is rounded once for all its uses."""
        if self.held is not None and self.held.u >= form.u and self.held.largest <= form.largest:
            return self
        drift = -form.drift * self.drifted() if form.drift else None
        if constant:
            drift = form.u * self.drifted()
        bound = form.u * self.at_most() + form.tiny
        bound = torch.where(self.likely() > form.largest, torch.inf, bound)  # it may overflow
        errors = Errors(bound, (form.u * self.likely() + form.tiny).square(), drift)
        # Who has rounded here rounds nothing when it stores; who has not, does so then.
        made = replace(self, errors=dict(self.errors), held=form)
        made._add(point, errors)
        return made

    def evaluated(self, point: str) -> Running:
        """This, as the result of exp, or of a power, in working precision.

        The relative error is that of the function, and that of its argument log x = g n, which is
        a product and may be scaled to base 2: two roundings. The same constant may be used at
        every step, so it drifts.
        """
        log = self.value.log().abs().nan_to_num(posinf=0.0)  # exp(-inf) = 0 is exact
        u = self.profile.arithmetic.u
        error = self.value * (self.profile.function_error + u * (1 + 2 * log))
        error = error + self.profile.arithmetic.tiny * (self.value > 0)
        made = replace(self, errors=dict(self.errors), held=None)
        made._add(point, Errors(error, error.square(), error))
        return made

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = _FUNCTIONS.get(function) or functions.KNOWN.get(function)
        if made is None:
            raise TypeError(f"running error analysis does not know {function.__name__}")
        return made(*args, **(kwargs or {}))


def _product(a: Running, b: Running, f: Callable[[Tensor, Tensor], Tensor], terms: int) -> Running:
    errors: dict[str, Errors] = {}
    most, likely, drifted = b.at_most(), b.likely().square(), b.drifted()
    for point, e in a.errors.items():
        drift = None if e.drift is None else f(e.drift, drifted)
        errors[point] = Errors(f(e.bound, most), f(e.spread, likely), drift)
    from_b: dict[str, Errors] = {}
    for point, e in b.errors.items():
        drift = None if e.drift is None else f(a.value, e.drift)
        from_b[point] = Errors(f(a.magnitude, e.bound), f(a.size.square(), e.spread), drift)
    value = f(a.value, b.value)
    whole = value.shape
    errors, from_b = (
        {
            p: e if e.bound.shape == whole else e.map(lambda x: x.expand(whole))
            for p, e in of.items()
        }
        for of in (errors, from_b)
    )
    size = a.size * b.size if f is torch.mul else value.abs()
    made = Running(value, a.profile, f(a.magnitude, b.magnitude), size, _merge(errors, from_b))
    return made._rounded_arithmetic(terms)


def _joined(function: Any, parts: Any, dim: int = 0) -> Running:
    first = next(p for p in parts if isinstance(p, Running))
    all_parts = [running(p, first.profile) for p in parts]
    points = dict.fromkeys(point for p in all_parts for point in p.errors)

    def join(get: Callable[[Running], Tensor]) -> Tensor:
        return function([get(p) for p in all_parts], dim=dim)  # type: ignore[no-any-return]

    def get(point: str, part: str) -> Callable[[Running], Tensor]:
        def of(p: Running) -> Tensor:
            e = p.errors.get(point)
            x = None if e is None else getattr(e, part)
            return p.value.new_zeros(p.shape) if x is None else x.expand(p.shape)

        return of

    errors = {}
    for point in points:
        drifts = any(p.errors[point].drift is not None for p in all_parts if point in p.errors)
        errors[point] = Errors(
            join(get(point, "bound")), join(get(point, "spread")),
            join(get(point, "drift")) if drifts else None,
        )  # fmt: skip
    held = {p.held for p in all_parts}
    return Running(
        join(lambda p: p.value), first.profile, join(lambda p: p.magnitude),
        join(lambda p: p.size), errors, held.pop() if len(held) == 1 else None,
    )  # fmt: skip


def _einsum(equation: str, a: Any, b: Any) -> Running:
    profile = a.profile if isinstance(a, Running) else b.profile
    first, second = running(a, profile), running(b, profile)
    names, _, result = equation.partition("->")
    sizes = dict(zip(names.replace(",", ""), (*first.shape, *second.shape), strict=True))
    terms = 1
    for letter, size in sizes.items():
        terms *= 1 if letter in result else size
    return _product(first, second, lambda x, y: torch.einsum(equation, x, y), terms)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.stack: partial(_joined, torch.stack),
    torch.cat: partial(_joined, torch.cat),
    torch.split: lambda x, sizes, dim=0: x.split(sizes, dim),
    torch.einsum: _einsum,
    torch.ones_like: lambda x, **options: torch.ones_like(x.value, **options),
    torch.zeros_like: lambda x: x.new_zeros(*x.shape),
    # an exact tensor on the left
    **dict.fromkeys((Tensor.__mul__, Tensor.__rmul__, torch.mul, Tensor.mul), lambda a, b: b * a),
    **dict.fromkeys((Tensor.__add__, torch.add, Tensor.add), lambda a, b: b + a),
    **dict.fromkeys((Tensor.__sub__, Tensor.sub, torch.sub), lambda a, b: b.__rsub__(a)),
    **dict.fromkeys(
        (Tensor.__matmul__, torch.matmul, Tensor.matmul), lambda a, b: b.__rmatmul__(a)
    ),
}


def running(x: Any, profile: Profile) -> Running:
    """``x`` as a number without errors."""
    none = torch.zeros(())
    return Running(none, profile, none, none).of(x)


def stored(x: Tensor, profile: Profile) -> Running:
    """An argument: a number without errors, in a format that holds it."""
    made = running(x.double(), profile)
    return replace(made, held=of_dtype(x.dtype))


def analysing(profile: Profile) -> Callable[[str, Any], Any]:
    """The policy under which the reference writes down its possible errors."""

    def policy(point: str, x: Any) -> Any:
        form = profile.points.get(point)
        if point in EVALUATED:
            x = running(x, profile).evaluated(point)
        if point in CONSTANTS:
            form = profile.arithmetic
        if point in SETTLED and isinstance(x, Running):
            x = x.settled()
        if form is None:
            return x
        return running(x, profile).rounded(point, form, constant=point in EVALUATED | CONSTANTS)

    return policy


def plain(x: Any) -> Tensor:
    """The value of a tensor that may be `Running`."""
    return x.value if isinstance(x, Running) else x


from lingspec.conformance.accuracy import functions  # noqa: E402 - which are of running numbers
