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
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.formats import Format
from lingspec.conformance.accuracy.profiles import Profile

__all__ = ["ARITHMETIC", "Running", "analysing", "plain"]

ARITHMETIC = "arithmetic"  # the point at which every sum and product rounds
# An intermediate leaves LAMBDA sqrt(spread) with probability 2 exp(-LAMBDA^2 / 2) = 2.5e-14
# (Hoeffding): 4e7 of them all stay inside with 1 - 1e-6, ten times as many with 1 - 1e-5.
LAMBDA = 8.0


@dataclass
class Errors:
    """What one rounding point contributes to each element."""

    bound: Tensor
    spread: Tensor
    drift: Tensor | None = None

    def map(self, f: Callable[[Tensor], Tensor]) -> Errors:
        return Errors(f(self.bound), f(self.spread), None if self.drift is None else f(self.drift))

    def plus(self, other: Errors) -> Errors:
        drift = self.drift
        if other.drift is not None:
            drift = other.drift if drift is None else drift + other.drift
        return Errors(self.bound + other.bound, self.spread + other.spread, drift)


def _merge(a: dict[str, Errors], b: dict[str, Errors]) -> dict[str, Errors]:
    merged = dict(a)
    for point, errors in b.items():
        merged[point] = merged[point].plus(errors) if point in merged else errors
    return merged


@dataclass
class Running:
    """A float64 tensor with its magnitudes and its possible errors.

    ``magnitude`` is the same expression on absolute values: no partial sum in any order exceeds
    it. ``size`` is the largest partial result in the order of the reference: what an intermediate
    really is, also where terms cancel later.
    """

    value: Tensor
    profile: Profile
    magnitude: Tensor
    size: Tensor
    errors: dict[str, Errors] = field(default_factory=dict)

    # -- what the reference asks of a tensor ------------------------------------------------

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    @property
    def mT(self) -> Running:
        return self._each(lambda x: x.mT)

    def dim(self) -> int:
        return self.value.dim()

    def to(self, _: torch.dtype) -> Running:
        return self

    def clone(self) -> Running:
        return self

    def new_zeros(self, *shape: int) -> Running:
        return running(self.value.new_zeros(*shape), self.profile)

    def transpose(self, a: int, b: int) -> Running:
        return self._each(lambda x: x.transpose(a, b))

    def __getitem__(self, index: Any) -> Running:
        return self._each(lambda x: x[index])

    def _each(self, f: Callable[[Tensor], Tensor]) -> Running:
        """``f`` only moves elements."""
        errors = {point: e.map(f) for point, e in self.errors.items()}
        return Running(f(self.value), self.profile, f(self.magnitude), f(self.size), errors)

    # -- what an implementation may have in its place ----------------------------------------

    def at_most(self) -> Tensor:
        """No partial sum exceeds this, in any order, whatever the roundings."""
        return sum((e.bound for e in self.errors.values()), self.magnitude)

    def likely(self) -> Tensor:
        """The size that independent roundings do not exceed."""
        if not self.errors:
            return self.size
        none = self.value.new_zeros(())
        spread = sum((e.spread for e in self.errors.values()), none)
        return self.size + self._drift().abs() + LAMBDA * spread.sqrt()

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

    def __matmul__(self, other: Any) -> Running:
        return _product(self, running(other, self.profile), torch.matmul, self.shape[-1])

    def __rmatmul__(self, other: Any) -> Running:
        return running(other, self.profile) @ self

    def __add__(self, other: Any) -> Running:
        b = running(other, self.profile)
        value = self.value + b.value
        size = torch.maximum(torch.maximum(self.size, b.size), value.abs())
        errors = {
            point: e if e.bound.shape == value.shape else e.map(lambda x: x.expand(value.shape))
            for point, e in _merge(self.errors, b.errors).items()
        }
        result = Running(value, self.profile, self.magnitude + b.magnitude, size, errors)
        return result._rounded_arithmetic(terms=1)

    __radd__ = __add__

    def sum(self, dim: int) -> Running:
        terms = self.shape[dim]
        value = self.value.sum(dim)
        errors = {point: e.map(lambda x: x.sum(dim)) for point, e in self.errors.items()}
        result = Running(value, self.profile, self.magnitude.sum(dim), value.abs(), errors)
        return result._rounded_arithmetic(terms)

    def _rounded_arithmetic(self, terms: int) -> Running:
        """The error of adding ``terms`` terms in any order: n u / (1 - n u), of what they reach."""
        form = self.profile.arithmetic
        step = (form.u * self.at_most() + form.tiny) / (1 - terms * form.u)
        self._add(ARITHMETIC, Errors(terms * step, terms * step.square()))
        return self

    def _add(self, point: str, errors: Errors) -> None:
        self.errors = _merge(self.errors, {point: errors})

    # -- rounding points ---------------------------------------------------------------------

    def rounded(self, point: str, form: Format, *, constant: bool = False) -> Running:
        """This, possibly rounded to ``form``; a ``constant`` is rounded once for all its uses."""
        drift = -form.drift * self.drifted() if form.drift else None
        if constant:
            drift = form.u * self.drifted()
        bound = form.u * self.at_most() + form.tiny
        bound = torch.where(self.likely() > form.largest, torch.inf, bound)  # it may overflow
        errors = Errors(bound, (form.u * self.likely() + form.tiny).square(), drift)
        made = Running(self.value, self.profile, self.magnitude, self.size, dict(self.errors))
        made._add(point, errors)
        return made

    def evaluated(self, point: str) -> Running:
        """This, as the result of exp in working precision.

        The relative error is that of the function, and that of its argument log x = g n, which is
        a product and may be scaled to base 2: two roundings. The same constant may be used at
        every step, so it drifts.
        """
        log = self.value.log().abs().nan_to_num(posinf=0.0)  # exp(-inf) = 0 is exact
        u = self.profile.arithmetic.u
        error = self.value * (self.profile.function_error + u * (1 + 2 * log))
        error = error + self.profile.arithmetic.tiny * (self.value > 0)
        made = Running(self.value, self.profile, self.magnitude, self.size, dict(self.errors))
        made._add(point, Errors(error, error.square(), error))
        return made

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function in (torch.stack, torch.cat):
            return _joined(function, *args, **(kwargs or {}))
        swapped = {Tensor.__mul__: "__mul__", Tensor.__rmul__: "__mul__", torch.mul: "__mul__"}
        swapped |= {Tensor.mul: "__mul__", Tensor.add: "__add__", Tensor.__add__: "__add__"}
        if function in swapped:  # an exact tensor on the left
            return getattr(args[1], swapped[function])(args[0])
        if function in (Tensor.__matmul__, torch.matmul, Tensor.matmul):
            return args[1].__rmatmul__(args[0])
        raise TypeError(f"running error analysis does not know {function.__name__}")


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
    return Running(
        join(lambda p: p.value), first.profile, join(lambda p: p.magnitude),
        join(lambda p: p.size), errors,
    )  # fmt: skip


def running(x: Any, profile: Profile) -> Running:
    """``x`` as a number without errors."""
    if isinstance(x, Running):
        return x
    value = torch.as_tensor(x, dtype=torch.float64)
    return Running(value, profile, value.abs(), value.abs())


def analysing(profile: Profile) -> Callable[[str, Any], Any]:
    """The policy under which the reference writes down its possible errors."""

    def policy(point: str, x: Any) -> Any:
        form = profile.points.get(point)
        if point == "decay":
            x = running(x, profile).evaluated(point)
        if form is None:
            return x
        return running(x, profile).rounded(point, form, constant=point == "decay")

    return policy


def plain(x: Any) -> Tensor:
    """The value of a tensor that may be `Running`."""
    return x.value if isinstance(x, Running) else x
