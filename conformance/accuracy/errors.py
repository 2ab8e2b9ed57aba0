"""What may be wrong with the elements of a tensor, rounding point by rounding point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

__all__ = ["LAMBDA", "Errors", "Part", "same"]

# An intermediate leaves LAMBDA sqrt(spread) with probability 2 exp(-LAMBDA^2 / 2) = 2.5e-14
# (Hoeffding): 4e7 of them all stay inside with 1 - 1e-6, ten times as many with 1 - 1e-5.
LAMBDA = 8.0
Move = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Part:
    """What one rounding point contributes to each element."""

    bound: Tensor
    spread: Tensor
    drift: Tensor | None = None

    def scaled(self, bound: Move, spread: Move, drift: Move) -> Part:
        """A function of each."""
        moved = None if self.drift is None else drift(self.drift)
        return Part(bound(self.bound), spread(self.spread), moved)

    def plus(self, other: Part) -> Part:
        """What the point contributes to a sum."""
        drift = self.drift
        if other.drift is not None:
            drift = other.drift if drift is None else drift + other.drift
        return Part(self.bound + other.bound, self.spread + other.spread, drift)

    def larger(self, other: Part) -> Part:
        """The larger of each."""
        if self.drift is None or other.drift is None:
            drift = self.drift if other.drift is None else other.drift
        else:
            drift = torch.where(self.drift.abs() >= other.drift.abs(), self.drift, other.drift)
        bound = torch.maximum(self.bound, other.bound)
        return Part(bound, torch.maximum(self.spread, other.spread), drift)


@dataclass(frozen=True)
class Errors:
    """What every point contributes. It never changes, so that what is asked often is kept."""

    points: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def at(cls, point: str, bound: Tensor, spread: Tensor, drift: Tensor | None = None) -> Errors:
        """Those of one point."""
        return cls({point: Part(bound, spread, drift)})

    # -- of all points together ---------------------------------------------------------------

    @cached_property
    def reach(self) -> Tensor:
        """The sum of all bounds; of a tensor without errors, a number."""
        return _sum(part.bound for part in self.points.values())

    @cached_property
    def variance(self) -> Tensor:
        """The sum of all spreads."""
        return _sum(part.spread for part in self.points.values())

    @cached_property
    def trend(self) -> Tensor:
        """The signed sum of all drifts."""
        return _sum(part.drift for part in self.points.values() if part.drift is not None)

    @cached_property
    def deviation(self) -> Tensor:
        """What independent roundings do not move the value by."""
        return self.trend.abs() + LAMBDA * self.variance.sqrt()

    # -- as a number is moved, scaled, added --------------------------------------------------

    def map(self, f: Move) -> Errors:
        """``f`` of each tensor."""
        return self.scaled(f, f, f)

    def scaled(self, bound: Move, spread: Move, drift: Move) -> Errors:
        """A function of each."""
        return Errors({p: e.scaled(bound, spread, drift) for p, e in self.points.items()})

    def __getitem__(self, index: Any) -> Errors:
        return self.map(lambda x: x[index])

    def expand(self, shape: Sequence[int]) -> Errors:
        """Of a tensor of ``shape``, which this one's broadcasts to."""
        if all(part.bound.shape == shape for part in self.points.values()):
            return self
        return self.map(lambda x: x.expand(shape))

    def plus(self, other: Errors) -> Errors:
        """The errors of a sum of two tensors of one shape."""
        return self._with(other, Part.plus)

    def larger(self, other: Errors) -> Errors:
        """At every point the larger one."""
        return self._with(other, Part.larger)

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[Errors, Tensor]], f: Callable[[list[Tensor]], Tensor]
    ) -> Errors:
        """What ``f`` makes of several tensors; beside the errors of each, a tensor of its shape."""
        none = [torch.zeros_like(x) for _, x in parts]
        made = {}
        for point in dict.fromkeys(point for errors, _ in parts for point in errors.points):
            of = [errors.points.get(point) for errors, _ in parts]
            drifts = any(e is not None and e.drift is not None for e in of)

            def join(name: str, of: list[Part | None] = of) -> Tensor:
                found = [getattr(e, name, None) for e in of]
                return f([
                    zero if x is None else x.expand(zero.shape)
                    for x, zero in zip(found, none, strict=True)
                ])  # fmt: skip

            made[point] = Part(join("bound"), join("spread"), join("drift") if drifts else None)
        return cls(made)

    def _with(self, other: Errors, f: Callable[[Part, Part], Part]) -> Errors:
        made = dict(self.points)
        for point, part in other.points.items():
            made[point] = f(made[point], part) if point in made else part
        return Errors(made)


def same(x: Tensor) -> Tensor:
    """``x`` itself."""
    return x


def _sum(tensors: Any) -> Tensor:
    found = iter(tensors)
    first = next(found, None)
    return torch.zeros((), dtype=torch.float64) if first is None else sum(found, first)
