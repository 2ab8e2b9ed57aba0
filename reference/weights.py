"""Weights: a mapping from the released checkpoint's names to tensors, read when touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.precision import work
from lingspec.reference.rounding import at

__all__ = ["InDtype", "Once", "Weights", "linear", "part", "rows"]

Weights = Mapping[str, Tensor]


class InDtype(Mapping[str, Tensor]):
    """The same weights in another dtype, converted one at a time as they are read.

    The router's bias has float32 (float64 where ``dtype`` is), as in the released checkpoint.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self.weights, self.dtype = weights, dtype

    def __getitem__(self, name: str) -> Tensor:
        dtype = self.dtype
        if name.endswith(".expert_bias") and dtype != torch.float64:
            dtype = torch.float32
        return self.weights[name].to(dtype)

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Rows of a matrix, the others unread where that is possible."""
        return rows(self.weights, name, index).to(self.dtype)

    def part(self, name: str, which: slice) -> Tensor:
        """Neighbouring rows of a matrix, likewise."""
        return part(self.weights, name, which).to(self.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def __contains__(self, name: object) -> bool:
        return name in self.weights


class Once(Mapping[str, Tensor]):
    """The same weights, each read when it is first touched and kept for the others who do.

    For a stretch of the model: what it holds is released with it.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._read: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if ".experts." in name:  # one reader, who takes all tokens together
            return self.weights[name]
        if name not in self._read:
            self._read[name] = self.weights[name]
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def __contains__(self, name: object) -> bool:
        return name in self.weights


def rows(weights: Weights, name: str, index: Tensor) -> Tensor:
    """Rows ``index`` (...) of a matrix (M, N), as (..., N).

    Weights that have a method ``rows`` read no others: a vocabulary is large, a prompt is not.
    """
    some = getattr(weights, "rows", None)
    return weights[name][index] if some is None else some(name, index)


def part(weights: Weights, name: str, which: slice) -> Tensor:
    """Neighbouring rows of a matrix; weights that have a method ``part`` read no others."""
    some = getattr(weights, "part", None)
    return weights[name][which] if some is None else some(name, which)


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    """X W^T, and + b where there is a bias: (..., D) to (..., rows of W), in the dtype of ``x``.

    W has the dtype of ``x``, or float32: what was FP8. Sums are float32 (float64 for float64); the
    result is rounded once.
    """
    weight = weights[f"{name}.weight"]
    got, want = (tuple(weight.shape), weight.dtype), f"(..., {x.shape[-1]}) of {x.dtype}"
    ok = weight.dim() == 2 and weight.shape[1] == x.shape[-1]
    ok = ok and weight.dtype in (x.dtype, torch.float32)
    require(ok, f"{name}.weight", "shape and dtype", got, f"{want}, or float32")
    product = at("product", work(x) @ work(weight).mT)
    if f"{name}.bias" in weights:
        product = product + work(weights[f"{name}.bias"])
    return at("linear", product.to(x.dtype))
