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

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.errors import Errors, same
from lingspec.conformance.accuracy.formats import Format, of_dtype
from lingspec.conformance.accuracy.moves import Moves
from lingspec.conformance.accuracy.profiles import SPECIFIED, Profile

__all__ = ["ARITHMETIC", "Running", "analysing", "loaded", "plain", "running", "stored"]

ARITHMETIC = "arithmetic"  # the point at which every sum and product rounds
# Points of results of exp and powers, and of numbers that are computed once and then held: both
# are used again and again, so what they err by does not average out.
EVALUATED = frozenset({"decay", "frequency"})
CONSTANTS = frozenset({"end"})
# A bound beyond this says nothing, and stays a number so that what is likely can still be said.
UNKNOWN = 1e30
# Points of results that every implementation forms: what it computes of them is not distributed
# over the sums that they were made of.
SETTLED = frozenset({*SPECIFIED, "output", "score"})


@dataclass(eq=False)
class Running(Moves):
    """A float64 tensor with its magnitudes and its possible errors."""

    # -- what an implementation may have in its place ----------------------------------------

    def at_most(self) -> Tensor:
        """No partial sum exceeds this, in any order, whatever the roundings."""
        return self.magnitude + self.errors.reach

    def likely(self) -> Tensor:
        """The size that independent roundings do not exceed."""
        return self.size + self.deviation()

    def deviation(self) -> Tensor:
        """What independent roundings do not move the value by."""
        return self.errors.deviation

    def _single(self) -> Tensor:
        """Where nothing was added up to make this."""
        return self.magnitude <= self.value.abs() * (1 + 2.0**-50)

    def drifted(self) -> Tensor:
        """The value with all drifts in it."""
        return self.value + self.errors.trend

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
        return replace(self, value=-self.value, errors=self.errors.scaled(same, same, torch.neg))

    def __sub__(self, other: Any) -> Running:
        return self + -running(other, self.profile)

    def __rsub__(self, other: Any) -> Running:
        return running(other, self.profile) + -self

    def __add__(self, other: Any) -> Running:
        b = running(other, self.profile)
        value = self.value + b.value
        whole = value.shape
        size = torch.maximum(torch.maximum(self.size, b.size), value.abs().nan_to_num(posinf=0.0))
        errors = self.errors.expand(whole).plus(b.errors.expand(whole))
        magnitude = (self.magnitude + b.magnitude).expand(whole)
        result = Running(value, self.profile, magnitude, size, errors)
        # The sum of two numbers that are no sums themselves has no other partial sum.
        alone = self._single() & b._single()
        own = errors.reach + value.abs().nan_to_num(posinf=0.0)
        return result._rounded_arithmetic(1, torch.where(alone, own, result.at_most()))

    __radd__ = __add__

    def sum(self, dim: int, *, keepdim: bool = False) -> Running:
        value = self.value.sum(dim, keepdim)
        errors = self.errors.expand(self.shape).map(lambda x: x.sum(dim, keepdim))
        magnitude = self.magnitude.sum(dim, keepdim)
        result = Running(value, self.profile, magnitude, value.abs(), errors)
        return result._rounded_arithmetic(self.shape[dim])

    def mean(self, dim: int, *, keepdim: bool = False) -> Running:
        return self.sum(dim, keepdim=keepdim) * (1 / max(self.shape[dim], 1))

    def settled(self) -> Running:
        """This, as one number: no sum that it was made of is taken apart any more."""
        size = self.value.abs().nan_to_num(posinf=0.0)
        most = UNKNOWN * size.clamp(min=1.0)  # of numbers of 1e38 more is known than of 1
        errors = self.errors.scaled(lambda e: torch.minimum(e, most), same, same)
        return replace(self, magnitude=size, size=size, errors=errors)

    def square(self) -> Running:
        """Both factors err alike: 2 |x| e + e^2."""
        x = self.settled()
        most, likely = x.at_most() + x.magnitude, (x.size + x.likely()).square()
        both = x.value + x.drifted()
        errors = x.errors.scaled(lambda e: e * most, lambda e: e * likely, lambda e: e * both)
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
        u, tiny = (x / (1 - terms * form.u) for x in (form.u, form.tiny))
        bound = (most * (terms * u)).add_(terms * tiny)
        spread = (likely * (math.sqrt(terms) * u)).add_(math.sqrt(terms) * tiny).square_()
        self._add(ARITHMETIC, bound, spread)
        return self

    def _add(self, point: str, bound: Tensor, spread: Tensor, drift: Tensor | None = None) -> None:
        """Errors of one more rounding, all of the shape of this."""
        self.errors = self.errors.plus(Errors.at(point, bound, spread, drift))

    # -- rounding points ---------------------------------------------------------------------

    def rounded(self, point: str, form: Format, *, constant: bool = False) -> Running:
        """This, possibly rounded to ``form``; a ``constant`` is rounded once for all its uses."""
        if self.held is not None and self.held.u >= form.u and self.held.largest <= form.largest:
            return self
        drift = -form.drift * self.drifted() if form.drift else None
        if constant:
            drift = form.u * self.drifted()
        over = self.likely() > form.largest  # it may overflow: then nothing is known
        bound = (form.u * self.at_most() + form.tiny).masked_fill(over, torch.inf)
        spread = (form.u * self.likely() + form.tiny).square().masked_fill(over, torch.inf)
        # Who has rounded here rounds nothing when it stores; who has not, does so then.
        made = replace(self, held=form)
        made._add(point, bound, spread, drift)
        return made

    def evaluated(self, point: str) -> Running:
        """This, as the result of exp, or of a power, in working precision.

        The relative error is that of the function, and that of its argument log x = g n, which is
        a product and may be scaled to base 2: two roundings, and that of log2(e). The same constant
        may be used at every step, so it drifts.
        """
        log = self.value.log().abs().nan_to_num(posinf=0.0)  # exp(-inf) = 0 is exact
        form = self.profile.arithmetic
        of_log = (2 * form.u + functions.base_two(form)) * log
        error = self.value * (self.profile.function_error + form.u + of_log)
        error = error + form.tiny * (self.value > 0)
        made = replace(self, held=None)
        made._add(point, error, error.square(), error)
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
    value, errors = f(a.value, b.value), Errors()
    if a.errors.points:
        most, likely, drifted = b.at_most(), b.likely().square(), b.drifted()
        errors = a.errors.scaled(
            lambda e: f(e, most), lambda e: f(e, likely), lambda e: f(e, drifted)
        ).expand(value.shape)
    if b.errors.points:
        size = a.size.square()
        errors = errors.plus(b.errors.scaled(
            lambda e: f(a.magnitude, e), lambda e: f(size, e), lambda e: f(a.value, e)
        ).expand(value.shape))  # fmt: skip
    size = a.size * b.size if f is torch.mul else value.abs()
    made = Running(value, a.profile, f(a.magnitude, b.magnitude), size, errors)
    return made._rounded_arithmetic(terms)


def _joined(function: Any, parts: Any, dim: int = 0) -> Running:
    first = next(p for p in parts if isinstance(p, Running))
    whole = [running(p, first.profile) for p in parts]

    def join(tensors: list[Tensor]) -> Tensor:
        return function(tensors, dim=dim)  # type: ignore[no-any-return]

    held = {p.held for p in whole}
    return Running(
        join([p.value for p in whole]), first.profile, join([p.magnitude for p in whole]),
        join([p.size for p in whole]), Errors.joined([(p.errors, p.value) for p in whole], join),
        held.pop() if len(held) == 1 else None,
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


def loaded(x: Tensor, profile: Profile) -> Running:
    """An argument in working precision: rounded where that is coarser than its dtype."""
    made = running(x.double(), profile)
    coarser = profile.arithmetic.u > of_dtype(x.dtype).u
    return made.rounded(ARITHMETIC, profile.arithmetic) if coarser else made


def stored(x: Tensor, profile: Profile) -> Running:
    """The same, in a format that holds it: storing it again rounds nothing."""
    made = loaded(x, profile)
    return replace(made, held=made.held or of_dtype(x.dtype))


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
