"""Weights: a mapping from the released checkpoint's names to tensors, read when touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lingspec.reference.precision import work
from lingspec.reference.rounding import at

__all__ = ["InDtype", "Weights", "linear", "rows"]

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

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def rows(weights: Weights, name: str, index: Tensor) -> Tensor:
    """Rows ``index`` (...) of a matrix (M, N), as (..., N).

    Weights that have a method ``rows`` read no others: a vocabulary is large, a prompt is not.
    """
    some = getattr(weights, "rows", None)
    return weights[name][index] if some is None else some(name, index)


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    """X W^T, and + b where there is a bias: (..., D) to (..., rows of W), in the dtype of ``x``.

    Sums are float32 (float64 for float64); the result is rounded once.
    """
    product = at("product", work(x) @ work(weights[f"{name}.weight"]).mT)
    if f"{name}.bias" in weights:
        product = product + work(weights[f"{name}.bias"])
    return at("linear", product.to(x.dtype))
