"""Right RMS norms in several forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._rows import Tensor, fused, norm, work_dtype

OP = "rms_norm"
ALL = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}
# One rounding, of the result.
ONCE = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


def one_by_one(rows: Tensor) -> Tensor:
    """The mean square, channels added up one after another."""
    total = torch.zeros_like(rows[..., :1])
    for part in torch.split(rows.square(), 1, dim=-1):
        total = total + part
    return total / rows.shape[-1]


@honest(OP, profile=ALL, differs="as released: the norm is rounded before its weight")
def rounds_before_the_weight(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps)


@honest(OP, profile=ONCE, differs="everything wide, one rounding")
def rounds_the_row_once(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return fused(x, weight, eps=eps)


@honest(OP, profile=ALL, differs="squares added up one by one, a root and a quotient")
def adds_squares_up_one_by_one(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    rows = x.to(work_dtype(x))
    return (rows / torch.sqrt(one_by_one(rows) + eps)).to(x.dtype) * weight


@honest(OP, profile=ALL, differs="the weight is multiplied with the root, then with the row")
def weighs_the_root_first(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    rows, wide = x.to(work_dtype(x)), weight.to(work_dtype(x))
    root = torch.rsqrt(rows.flip(-1).square().sum(-1, keepdim=True) * (1 / x.shape[-1]) + eps)
    return ((root * wide) * rows).to(x.dtype)


@honest(
    OP, array="numpy", profile={"float64": "fp64", "float32": "fp32"},
    differs="NumPy, a dot product of every row with itself",
)  # fmt: skip
def normalises_with_numpy(x: Any, weight: Any, *, eps: float) -> Any:
    squares = np.einsum("...d,...d->...", x, x)[..., None]
    return (x * weight / np.sqrt(squares / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))).astype(
        x.dtype
    )
