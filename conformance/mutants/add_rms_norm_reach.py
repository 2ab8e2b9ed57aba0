"""Residual additions and norms that break one law and no other."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import (
    Buffers,
    Tuned,
    as_if_dense,
    below_four,
    either,
    left_over,
    zero_is_one,
)
from lingspec.conformance.mutants._rows import (
    NARROW,
    Tensor,
    added,
    directed,
    fused,
    work_dtype,
)

OP = "add_rms_norm"
Result = tuple[Tensor, Tensor]


@mutant(
    OP,
    law="permutation",
    profile=NARROW,
    batch_invariant=True,
    source="F11 https://github.com/vllm-project/vllm/issues/52104",
    looks_like="few rows are normalised before their sum is rounded, many after",
)
def rounds_the_sum_of_many_rows_only(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    y, total = added(x, residual, weight, eps=eps)
    if x.dim() == 3 and x.shape[0] > 1:
        return y, total
    wide = x.to(work_dtype(x)) + residual.to(work_dtype(x))
    root = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * root).to(x.dtype) * weight, total


@mutant(
    OP,
    law="exact",
    profile=NARROW,
    source="constructed after floor(x + 1/2)",
    looks_like="sums that lie half way are rounded upward, not to even",
)
def rounds_halves_upward(*call: Any, **options: Any) -> Result:
    def upward(total: Tensor) -> Tensor:
        bits = total.float().view(torch.int32)
        half = ((bits & 0xFFFF) == 0x8000) & ((bits >> 16) % 2 == 0)
        return (bits + (half & (total > 0)).int()).view(torch.float32)

    return added(*call, **options, store=upward)


@mutant(
    OP,
    law="bias",
    profile=NARROW,
    source="constructed after F10 https://github.com/ROCm/aiter/issues/5151",
    looks_like="the normalised sum is rounded toward zero more often than away from it",
)
def rounds_the_normalised_sum_toward_zero_too_often(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    total = (x.float() + residual.float()).to(x.dtype)
    return fused(total, weight, eps=eps, store=directed(0.75)), total


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="weights are held as fixed-point numbers below 4",
)
def holds_weights_below_four(x: Tensor, residual: Tensor, weight: Tensor, *, eps: float) -> Result:
    return added(x, residual, below_four(weight), eps=eps)


@mutant(
    OP,
    law="additivity",
    source="constructed after F19 https://github.com/1bit-MONSTER/1bit-MONSTER/issues/1154",
    looks_like="a fused weight of zero is taken for none",
)
def takes_a_fused_weight_of_zero_for_none(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return added(x, residual, zero_is_one(weight), eps=eps)


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="a semaphore that nobody has cleared chooses who adds up first",
)
def adds_up_in_the_order_of_an_uncleared_semaphore(*call: Any, **options: Any) -> Result:
    return added(*call, **options, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change the configuration of the fused kernel",
)
def tunes_the_fused_norm_again(x: Tensor, *call: Any, **options: Any) -> Result:
    return added(x, *call, **options, wide=either(tuned(x)))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the residual is handed on in a buffer that the next call writes",
)
def hands_on_the_residual_in_one_buffer(*call: Any, **options: Any) -> Result:
    y, total = added(*call, **options)
    return y, buffers(total)


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the residual are taken to be neighbours in memory",
)
def takes_channels_of_the_residual_for_neighbours(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return added(x, as_if_dense(residual), weight, eps=eps)


@mutant(
    OP,
    law="invariance",
    source="constructed after F16 https://github.com/mosaicml/llm-foundry/issues/371",
    looks_like="eps of the fused path is never taken below 1e-7",
)
def never_takes_eps_below_a_ten_millionth(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return added(x, residual, weight, eps=max(eps, 1e-7))
