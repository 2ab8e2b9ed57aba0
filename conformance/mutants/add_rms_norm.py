"""Residual additions and norms that compute something else."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import (
    HALF,
    NARROW,
    Tensor,
    added,
    directed,
    norm,
    unit,
    work_dtype,
)

OP = "add_rms_norm"
Result = tuple[Tensor, Tensor]


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="x is normalised, not its sum with the residual",
)
def normalises_before_it_adds(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> Result:
    return norm(x, weight, eps=eps), x + residual


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the residual goes on without x",
)
def hands_on_the_old_residual(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> Result:
    return added(x, residual, weight, eps=eps)[0], residual.clone()


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="what is handed on is the normalised row",
)
def hands_on_the_normalised_row(*call: Any, **options: Any) -> Result:
    y, _ = added(*call, **options)
    return y, y.clone()


@mutant(
    OP,
    law="untouched",
    source="constructed after fused_add_rms_norm, which works in place",
    looks_like="the sum is written to the residual that was given",
)
def writes_the_sum_to_the_residual(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    y, total = added(x, residual, weight, eps=eps)
    residual.copy_(total)
    return y, total


@mutant(
    OP,
    law="authority",
    profile=NARROW,
    source="F10 https://github.com/ROCm/aiter/issues/5151",
    looks_like="the sum is rounded by dropping bits",
)
def drops_the_bits_of_the_sum(*call: Any, **options: Any) -> Result:
    return added(*call, **options, store=directed(1.0))


@mutant(
    OP,
    law="authority",
    profile=HALF,
    source="constructed",
    looks_like="both halves of the sum are rounded to float16 after they are scaled by 1/3",
)
def adds_thirds_in_float16(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> Result:
    total = (3 * (x / 3 + residual / 3).float()).to(x.dtype)
    return norm(total, weight, eps=eps), total


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the square of the sum is taken apart, and its terms cancel",
)
def adds_three_squares_that_cancel(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    a, b = x.to(work_dtype(x)), residual.to(work_dtype(x))
    mean = (a * a).mean(-1, keepdim=True) + (b * b).mean(-1, keepdim=True)
    mean = mean + 2 * (a * b).mean(-1, keepdim=True)
    total = (a + b).to(x.dtype)
    return (total.to(a.dtype) * torch.rsqrt(mean + eps)).to(x.dtype) * weight, total


@mutant(
    OP,
    law="authority",
    source="F16 https://github.com/fla-org/flash-linear-attention/commit/9b9e47d7",
    looks_like="rows are divided by the inverse of the root",
)
def divides_by_the_inverse_root(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    total = x + residual
    wide = total.to(work_dtype(x))
    return (wide / torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(
        x.dtype
    ) * weight, total


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the residual is broadcast from the first row of the batch",
)
def adds_the_residual_of_the_first_row(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    first = residual[:1].expand_as(residual) if residual.dim() > 1 else residual
    return added(x, first, weight, eps=eps)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="eps is added to every square, and so D times",
)
def adds_eps_to_every_square(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> Result:
    total = x + residual
    return unit(total, eps * x.shape[-1]).to(x.dtype) * weight, total
