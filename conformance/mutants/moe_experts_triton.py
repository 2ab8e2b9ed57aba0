"""Wrong Triton kernels for experts."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._moe_triton import Tensor, experts_of

OP = "moe_experts"
SPEC = {"float32": "fp32", "bfloat16": "fp32+spec=bf16"}


@mutant(
    OP, law="authority", profile=SPEC,
    source="constructed after H01 https://github.com/vllm-project/vllm/pull/45539",
    looks_like="of an odd number of choices the last is left out",
)  # fmt: skip
def reads_an_even_number_of_choices(*call: Any, **options: Any) -> Tensor:
    return experts_of(*call, **options, fault="an even number of choices")


@mutant(
    OP, law="authority", profile=SPEC,
    source="H01 https://github.com/vllm-project/vllm/pull/35161",
    looks_like="expert -1 is computed as expert 0",
)  # fmt: skip
def loads_expert_zero_for_foreign_ones(*call: Any, **options: Any) -> Tensor:
    return experts_of(*call, **options, fault="expert -1 is 0")


@mutant(
    OP, law="authority", profile=SPEC,
    source="constructed after I04 https://github.com/ml-explore/mlx/issues/3762",
    looks_like="a lane behind the last hidden channel reads up as gate and is not masked",
)  # fmt: skip
def computes_lanes_behind_the_hidden_ones(*call: Any, **options: Any) -> Tensor:
    return experts_of(*call, **options, fault="hidden lanes unmasked")


@mutant(
    OP, law="strides", profile=SPEC,
    source="L01 https://github.com/vllm-project/vllm/pull/5939",
    looks_like="the offset of an expert is computed in 32 bits",
)  # fmt: skip
def computes_offsets_of_experts_in_32_bits(*call: Any, **options: Any) -> Tensor:
    return experts_of(*call, **options, fault="int32 offsets")


@mutant(
    OP, law="authority", profile=SPEC,
    source="constructed",
    looks_like="weights are read choice by choice, not token by token",
)  # fmt: skip
def reads_the_weights_choice_by_choice(*call: Any, **options: Any) -> Tensor:
    return experts_of(*call, **options, fault="weights by choice")
