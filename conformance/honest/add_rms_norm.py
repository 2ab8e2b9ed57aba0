"""Right residual additions and norms in several forms."""

from __future__ import annotations

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.rms_norm import ALL, one_by_one
from lingspec.conformance.mutants._rows import Tensor, added, unit, work_dtype

OP = "add_rms_norm"
Result = tuple[Tensor, Tensor]


@honest(OP, profile=ALL, differs="as released: the rounded sum is normalised")
def normalises_the_rounded_sum(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return added(x, residual, weight, eps=eps)


@honest(OP, profile=ALL, differs="the sum is normalised as it is, and rounded beside that")
def normalises_the_wide_sum(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> Result:
    total = x.to(work_dtype(x)) + residual.to(work_dtype(x))
    return (unit(total, eps) * weight.to(total.dtype)).to(x.dtype), total.to(x.dtype)


@honest(
    OP, profile=ALL, differs="the mean is of the wide sum, added up one by one, of the rest not"
)
def takes_the_mean_of_the_wide_sum(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    total = residual.to(work_dtype(x)) + x.to(work_dtype(x))
    stored = total.to(x.dtype)
    root = torch.rsqrt(one_by_one(total) + eps)
    return (stored.to(total.dtype) * root).to(x.dtype) * weight, stored
