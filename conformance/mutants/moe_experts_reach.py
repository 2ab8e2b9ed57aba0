"""Experts that are right wherever nothing but single calls of usual size are looked at."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._experts import Tensor, combined, dense, experts_of, wide
from lingspec.conformance.mutants._memory import (
    another_way,
    as_if_rows,
    kept_buffer,
    on_the_object,
    remembered,
    scratch_is_set,
    sums,
)

OP = "moe_experts"
FP32 = {"float32": "fp32"}


@mutant(
    OP, law="authority",
    source="H04 https://github.com/linkedin/Liger-Kernel/commit/fb7352c8",
    looks_like="no tokens give one row",
)  # fmt: skip
def gives_a_row_of_zeros_where_there_are_no_tokens(*call: Any) -> Tensor:
    y = experts_of(*call)
    return y if len(y) else y.new_zeros(1, y.shape[1])


_results: dict[Any, Tensor] = {}


@mutant(
    OP, law="permutation", source="constructed after caches keyed by a checksum",
    looks_like="results are kept under a checksum that does not know the order of tokens",
)  # fmt: skip
def keeps_results_under_a_sum_of_the_tokens(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    pairs = torch.zeros(len(x), len(down) + 1, dtype=torch.float64)
    pairs.scatter_add_(1, (experts + 1).long(), weights.double())
    key = sums(x, pairs, gate_up, down), x.dtype
    made: Tensor = remembered(_results, key, lambda: experts_of(x, gate_up, down, experts, weights))
    return made


def in_float64(results: Tensor, weights: Tensor) -> Tensor:
    """The same sum in float64, rounded once."""
    y = (results.double() * weights.double()[..., None]).sum(dim=1)
    return y.to(results.dtype)


@mutant(
    OP, law="determinism",
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="the order of summation depends on memory that nobody has written",
    profile=FP32,
)  # fmt: skip
def adds_in_an_order_that_memory_decides(*call: Any) -> Tensor:
    return experts_of(*call, combine=in_float64 if scratch_is_set() else combined)


_seen: set[Any] = set()


@mutant(
    OP, law="shapes", source="constructed after autotuners that count calls",
    looks_like="the order of summation depends on which shapes were seen before",
    profile=FP32,
)  # fmt: skip
def adds_in_an_order_that_earlier_shapes_decide(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    other = another_way(_seen, (x.shape, gate_up.shape, experts.shape))
    return experts_of(x, gate_up, down, experts, weights, combine=in_float64 if other else combined)


_kept: dict[Any, Tensor] = {}


@mutant(
    OP, law="untouched", source="constructed after the static outputs of captured graphs",
    looks_like="the result lies in a buffer that the next call writes",
)  # fmt: skip
def returns_tokens_in_the_same_buffer(*call: Any) -> Tensor:
    return kept_buffer(_kept, experts_of(*call))


@mutant(
    OP, law="untouched", source="constructed",
    looks_like="ids of experts on other ranks are replaced in the caller's memory",
)  # fmt: skip
def replaces_ids_in_place(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    y = experts_of(x, gate_up, down, experts, weights)
    experts.clamp_(min=0)
    return y


@mutant(
    OP, law="strides", source="constructed after H05 https://github.com/linkedin/Liger-Kernel/commit/780e76b8",
    looks_like="the columns of down are taken to lie side by side",
)  # fmt: skip
def takes_the_columns_of_down_to_lie_side_by_side(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    return experts_of(x, gate_up, as_if_rows(down), experts, weights)


@mutant(
    OP, law="homogeneity",
    source="constructed after H10 https://github.com/sgl-project/sglang/pull/36312",
    looks_like="up is cut off at 2^24",
)  # fmt: skip
def cuts_the_other_half_off_at_2_24(*call: Any) -> Tensor:
    def act(gate: Tensor, up: Tensor) -> Tensor:
        return gate * gate.sigmoid() * up.clamp(-(2.0**24), 2.0**24)

    return experts_of(*call, one=lambda x, g, d: dense(x, g, d, act))


@mutant(
    OP, law="additivity", source="constructed after kernels for pruned weights",
    looks_like="a row of up with a 0 in it is taken for pruned",
)  # fmt: skip
def takes_rows_of_up_with_a_zero_for_pruned(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    gate, up = gate_up.chunk(2, dim=1)
    up = up * (up != 0).all(dim=-1, keepdim=True)
    return experts_of(x, torch.cat([gate, up], dim=1), down, experts, weights)


@mutant(
    OP, law="exact", source="constructed after approximate reciprocals",
    looks_like="SiLU is an ulp too large",
    profile=FP32,
)  # fmt: skip
def makes_silu_an_ulp_too_large(*call: Any) -> Tensor:
    def act(gate: Tensor, up: Tensor) -> Tensor:
        return gate * gate.sigmoid() * (1 + 2.0**-23) * up

    return experts_of(*call, one=lambda x, g, d: dense(x, g, d, act))


@mutant(
    OP, law="sharding", source="constructed after J03",
    looks_like="no more choices are read than the rank has experts",
)  # fmt: skip
def reads_no_more_choices_than_the_rank_has_experts(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    k = min(experts.shape[1], len(down))
    return experts_of(x, gate_up, down, experts[:, :k], weights[:, :k])


@mutant(
    OP, law="invariance", source="constructed after I13",
    looks_like="all experts share the fixed-point format of the largest weight of any",
    profile=FP32,
)  # fmt: skip
def keeps_all_experts_in_one_fixed_point_format(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    step = float(down.abs().max()) * 2.0**-26 if down.numel() else 1.0
    fixed = (down.double() / max(step, 1e-38)).round() * step
    return experts_of(x, gate_up, fixed.to(down.dtype), experts, weights)


@mutant(
    OP, law="identities", source="constructed",
    looks_like="ids are kept in 8 bits",
)  # fmt: skip
def keeps_ids_in_eight_bits(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    ids = torch.where(experts < 0, experts, experts % 256)
    return experts_of(x, gate_up, down, ids, weights)


@mutant(
    OP, law="bias", source="constructed",
    looks_like="results are cut off instead of rounded where that is within a unit",
    profile={"bfloat16": "fp32"},
)  # fmt: skip
def cuts_results_off_where_that_is_nearly_as_near(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    def combine(results: Tensor, weights: Tensor) -> Tensor:
        y = (results * weights[..., None]).sum(dim=1)
        sticky = (y.view(torch.int32) & 0xF) != 0
        cut = (y.view(torch.int32) & ~0xFFFF).view(torch.float32)
        nearly = (y - cut).abs() < 0.98 * 2.0**-8 * y.abs()
        return torch.where(sticky & nearly, cut, y).to(x.dtype)

    wider = wide(x), wide(gate_up), wide(down)
    return experts_of(*wider, experts, weights, combine=combine)


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="tokens sorted by expert are kept on the tensor of the choices",
)
def keeps_the_sorting_of_a_tensor_of_choices(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    first = on_the_object(experts, experts.clone)
    return experts_of(x, gate_up, down, first, weights)
