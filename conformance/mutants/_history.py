"""What a result must not depend on: calls before it, memory that nobody has written."""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor


def left_over(choices: int) -> int:
    """A number below ``choices`` that is found in memory which nobody has written."""
    return int(torch.empty((), dtype=torch.int64)) % choices


def either(choice: int) -> torch.dtype | None:
    """In which of two dtypes to compute: the usual one, or float64. Both are right."""
    return torch.float64 if choice else None


class Tuned:
    """A cache of one configuration, which is tuned anew, with another outcome, for other shapes."""

    def __init__(self) -> None:
        self.shapes: tuple[Any, ...] = ()
        self.turn = 0

    def __call__(self, *tensors: Tensor) -> int:
        shapes = tuple((x.shape, x.dtype) for x in tensors)
        if shapes != self.shapes:
            self.shapes, self.turn = shapes, self.turn + 1
        return (self.turn * 2654435761 >> 13) & 1  # as good as drawn


class Buffers:
    """Results that lie where the last ones of their shape lay."""

    def __init__(self) -> None:
        self.kept: dict[Any, Tensor] = {}

    def __call__(self, x: Tensor, name: str = "") -> Tensor:
        key = (name, x.shape, x.dtype)
        return self.kept.setdefault(key, torch.empty_like(x)).copy_(x)


def as_if_dense(x: Tensor) -> Tensor:
    """``x`` read with an innermost stride of 1, whatever it is."""
    return x.as_strided(x.shape, (*x.stride()[:-1], 1))


def zero_is_one(weight: Tensor) -> Tensor:
    """A weight of zero, taken for one that was never loaded."""
    return torch.where(weight == 0, torch.ones_like(weight), weight)


def through_float16(x: Tensor) -> Tensor:
    """Which holds nothing beyond 65504."""
    return x.to(torch.float16).to(x.dtype)


def below_four(weight: Tensor) -> Tensor:
    """As a fixed-point number of two bits before the point holds it."""
    return weight.clamp(-4.0, 4.0)


def packed_if_sparse(x: Tensor) -> Tensor:
    """Rows with a few zeros among other channels, their channels moved to the front."""
    set_ = x != 0
    share = set_.float().mean(-1, keepdim=True)
    sparse = (share > 0.25) & (share < 0.75) & (set_.sum(-1, keepdim=True) > 2)
    order = (~set_).to(torch.int8).argsort(dim=-1, stable=True)
    return torch.where(sparse, x.gather(-1, order), x)
