"""Weights: a mapping from the released checkpoint's names to tensors, read when touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.layout import FLOAT32, CheckpointError, check, check_names, finite, tensors
from lingspec.reference.precision import FLOATS, work
from lingspec.reference.rounding import at

__all__ = ["Checked", "InDtype", "Once", "Weights", "linear", "part", "rows"]

Weights = Mapping[str, Tensor]
NARROW = ("word_embeddings.weight", ".gate.weight")  # matrices that have the activations' dtype


class Over(Mapping[str, Tensor]):
    """Weights over weights: the names are those below."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[name]

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Rows of a matrix, the others unread where that is possible."""
        return rows(self.weights, name, index)

    def part(self, name: str, which: slice) -> Tensor:
        """Neighbouring rows of a matrix, likewise."""
        return part(self.weights, name, which)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def __contains__(self, name: object) -> bool:
        return name in self.weights


class Checked(Over):
    """Weights of a configuration: names now, and every tensor as it is read.

    What is read must be a tensor of floats, of the shape that the layout says, finite, and of the
    dtype of the activations; matrices of projections may be float32 (they were FP8), and so may
    the router's bias. A mapping with an attribute ``finite`` that is true vouches for its numbers;
    one with a method ``shape`` is asked for all shapes now.

    Args:
        weights: Any mapping. All of a dict is looked at now.
        config:  Whose they are to be.
        mixed:   Dtypes may differ, as they are converted later.

    Raises:
        CheckpointError: names are missing or unknown; a tensor is not as above.
    """

    def __init__(self, weights: Weights, config: LingConfig, *, mixed: bool = False) -> None:
        super().__init__(weights)
        self._shapes = dict(tensors(config))
        check_names(self._shapes, weights)
        if (told := getattr(weights, "shape", None)) is not None:
            check(config, {name: told(name) for name in self._shapes})
        self._dtype: torch.dtype | None = None
        self._vouched = bool(getattr(weights, "finite", False))
        if not mixed:
            self._dtype = self["model.norm.weight"].dtype
        if type(weights) is dict:  # all of it is in memory
            for name in weights:
                self[name]
            self._vouched = True

    def __getitem__(self, name: str) -> Tensor:
        return self._looked_at(name, self.weights[name], self._shapes[name])

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Rows of a matrix."""
        if not hasattr(self.weights, "rows"):
            return self[name][index]
        ids, width = index.flatten(), self._shapes[name][1]
        taken = rows(self.weights, name, ids)
        seen = self._looked_at(name, taken, (len(ids), width), ids.tolist())
        return seen.view(*index.shape, width)

    def part(self, name: str, which: slice) -> Tensor:
        """Neighbouring rows of a matrix."""
        if not hasattr(self.weights, "part"):
            return self[name][which]
        ids = range(*which.indices(self._shapes[name][0]))
        shape = (len(ids), *self._shapes[name][1:])
        return self._looked_at(name, part(self.weights, name, which), shape, ids)

    def _looked_at(
        self, name: str, x: Tensor, shape: tuple[int, ...], rows: Sequence[int] | None = None
    ) -> Tensor:
        if not isinstance(x, Tensor):
            raise CheckpointError(f"{name} is a {type(x).__name__}, but must be a tensor")
        if x.is_meta:
            raise CheckpointError(f"{name} is on the device meta, but must have numbers")
        if tuple(x.shape) != shape:
            raise CheckpointError(f"{name} has shape {tuple(x.shape)}, but must have {shape}")
        own = self._dtype
        fits = x.dtype in FLOATS if own is None else x.dtype == own or self._wide(name, x)
        if not fits:
            want = "one of floats, of 16 bits or more" if own is None else f"{own}, as the norms"
            raise CheckpointError(f"{name} has dtype {x.dtype}, but must have {want}")
        return x if self._vouched else finite(name, x, rows)

    def _wide(self, name: str, x: Tensor) -> bool:
        projection = x.dim() == 2 and not name.endswith(NARROW)
        return x.dtype == torch.float32 and (projection or name.endswith(FLOAT32))


class InDtype(Over):
    """The same weights in another dtype, converted one at a time as they are read.

    The router's bias has float32 (float64 where ``dtype`` is), as in the released checkpoint.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        super().__init__(weights)
        self.dtype = dtype

    def __getitem__(self, name: str) -> Tensor:
        dtype = self.dtype
        if name.endswith(FLOAT32) and dtype != torch.float64:
            dtype = torch.float32
        return self.weights[name].to(dtype)

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Rows of a matrix."""
        return super().rows(name, index).to(self.dtype)

    def part(self, name: str, which: slice) -> Tensor:
        """Neighbouring rows of a matrix."""
        return super().part(name, which).to(self.dtype)


class Once(Over):
    """The same weights, each read when it is first touched and kept for the others who do.

    For a stretch of the model: what it holds is released with it.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self._read: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if ".experts." in name:  # one reader, who takes all tokens together
            return self.weights[name]
        if name not in self._read:
            self._read[name] = self.weights[name]
        return self._read[name]


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
    product = at("product", at("operand", work(x)) @ at("operand", work(weight)).mT)
    if f"{name}.bias" in weights:
        product = product + work(weights[f"{name}.bias"])
    return at("linear", product.to(x.dtype))
