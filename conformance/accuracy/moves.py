"""What the lines of the reference ask of a tensor, but for arithmetic: shapes, parts, places.

Every method moves elements together with what may be wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lingspec.conformance.accuracy.errors import Errors
from lingspec.conformance.accuracy.formats import Format
from lingspec.conformance.accuracy.profiles import Profile

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Moves"]


@dataclass(eq=False)
class Moves:
    """The tensors of a `Running`, and what moves them.

    ``magnitude`` is the same expression on absolute values: no partial sum in any order exceeds
    it. ``size`` is the largest partial result in the order of the reference: what an intermediate
    really is, also where terms cancel later. ``held`` is the narrowest format that holds the value
    as it is, where one is known: rounding to it, or to a finer one, changes nothing.
    """

    value: Tensor
    profile: Profile
    magnitude: Tensor
    size: Tensor
    errors: Errors = field(default_factory=Errors)
    held: Format | None = None

    def of(self, x: Any) -> Self:
        """A number without errors, beside this one."""
        if isinstance(x, type(self)):
            return x
        value = torch.as_tensor(x, dtype=torch.float64)
        size = value.abs().nan_to_num(posinf=0.0)  # -inf is a mask, and exact
        return type(self)(value, self.profile, size, size)

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        return self.value.device

    @property
    def mT(self) -> Self:
        return self._each(lambda x: x.mT)

    def dim(self) -> int:
        return self.value.dim()

    def numel(self) -> int:
        return self.value.numel()

    def min(self) -> Tensor:
        return self.value.min()

    def to(self, _: torch.dtype) -> Self:
        return self

    def clone(self) -> Self:
        return self

    def double(self) -> Self:
        return self

    def topk(self, k: int, dim: int = -1) -> SimpleNamespace:
        """The largest values, and where they are: of the authority."""
        indices = self.value.topk(k, dim=dim).indices
        return SimpleNamespace(values=self.gather(dim, indices), indices=indices)

    def new_zeros(self, *shape: int) -> Self:
        return self.of(self.value.new_zeros(*shape))

    def new_full(self, shape: Sequence[int], fill: float) -> Self:
        return self.of(self.value.new_full(shape, fill))

    def transpose(self, a: int, b: int) -> Self:
        return self._each(lambda x: x.transpose(a, b))

    def reshape(self, *shape: Any) -> Self:
        return self._each(lambda x: x.reshape(*shape))

    view = reshape

    def view_as(self, other: Any) -> Self:
        return self.reshape(other.shape)

    def flatten(self, start: int = 0, end: int = -1) -> Self:
        return self._each(lambda x: x.flatten(start, end))

    def unsqueeze(self, dim: int) -> Self:
        return self._each(lambda x: x.unsqueeze(dim))

    def expand(self, *shape: int) -> Self:
        return self._each(lambda x: x.expand(*shape))

    def repeat_interleave(self, times: int, dim: int) -> Self:
        return self._each(lambda x: x.repeat_interleave(times, dim=dim))

    def chunk(self, parts: int, dim: int = 0) -> list[Self]:
        step = -(-self.shape[dim] // parts)
        return [self._narrowed(dim, n * step, step) for n in range(parts)]

    def split(self, sizes: Sequence[int], dim: int = 0) -> list[Self]:
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        return [self._narrowed(dim, a, n) for a, n in zip(starts, sizes, strict=True)]

    def squeeze(self, dim: int) -> Self:
        return self._each(lambda x: x.squeeze(dim))

    def unbind(self, dim: int = 0) -> list[Self]:
        return [self._each(partial(_selected, dim, n)) for n in range(self.shape[dim])]

    def gather(self, dim: int, index: Tensor) -> Self:
        return self._each(lambda x: x.gather(dim, index))

    def masked_fill(self, mask: Tensor, fill: float) -> Self:
        """A constant in some places, without errors there."""
        size = 0.0 if fill in (torch.inf, -torch.inf) else abs(fill)
        shape = torch.Size(np.broadcast_shapes(self.shape, mask.shape))

        def filled(by: float) -> Callable[[Tensor], Tensor]:
            return lambda x: x.expand(shape).masked_fill(mask, by)

        return replace(
            self, value=filled(fill)(self.value), magnitude=filled(size)(self.magnitude),
            size=filled(size)(self.size), errors=self.errors.map(filled(0.0)),
        )  # fmt: skip

    def clamp(self, low: float, high: float) -> Self:
        """Nothing is wrong with what lies outside, errors included."""
        reach = self.errors.reach
        outside = (self.value + reach < low) | (self.value - reach > high)
        value = self.value.clamp(low, high)
        most = max(abs(low), abs(high))
        return replace(
            self, value=value, magnitude=self.magnitude.clamp(max=most), size=value.abs(),
            errors=self.errors.map(lambda x: x.masked_fill(outside, 0.0)),
        )  # fmt: skip

    def __getitem__(self, index: Any) -> Self:
        return self._each(lambda x: x[index])

    def __setitem__(self, index: Any, other: Any) -> None:
        """Elements replaced, with what may be wrong with them."""
        of = self.of(other)

        def placed(pair: Sequence[Tensor]) -> Tensor:
            made = pair[0].expand(self.shape).clone()
            made[index] = pair[1]
            return made

        self.errors = Errors.joined([(self.errors, self.value), (of.errors, of.value)], placed)
        self.value, self.held = placed((self.value, of.value)), None
        self.magnitude = placed((self.magnitude, of.magnitude))
        self.size = placed((self.size, of.size))

    def __eq__(self, other: object) -> Any:
        return self.value == getattr(other, "value", other)

    def __ne__(self, other: object) -> Any:
        return self.value != getattr(other, "value", other)

    __hash__ = None  # type: ignore[assignment] # compared element by element

    def _narrowed(self, dim: int, start: int, length: int) -> Self:
        return self._each(lambda x: x.narrow(dim, start, min(length, x.shape[dim] - start)))

    def _each(self, f: Callable[[Tensor], Tensor]) -> Self:
        """``f`` only moves elements."""
        whole = self.shape

        def moved(x: Tensor) -> Tensor:
            return f(x if x.shape == whole else x.expand(whole))

        return replace(
            self, value=f(self.value), magnitude=moved(self.magnitude), size=moved(self.size),
            errors=self.errors.map(moved),
        )  # fmt: skip


def _selected(dim: int, index: int, x: Tensor) -> Tensor:
    return x.select(dim, index)
