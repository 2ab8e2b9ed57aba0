"""Wrong Triton kernels for the router."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._moe_triton import Result, route

OP = "moe_route"
FP32 = {"float32": "fp32"}


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed after G14 https://github.com/vllm-project/vllm/pull/32058",
    looks_like="lanes behind the last expert of a group hold 0, which beats a negative score",
)  # fmt: skip
def fills_the_lanes_of_a_group_with_zero(*call: Any, **options: Any) -> Result:
    return route(*call, **options, fault="padding is 0")


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed after G13 https://github.com/vllm-project/vllm/pull/54403",
    looks_like="two best experts with equal scores count as one in the score of their group",
)  # fmt: skip
def takes_tied_experts_out_together(*call: Any, **options: Any) -> Result:
    return route(*call, **options, fault="ties leave together")


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed after G11 https://github.com/sgl-project/sglang/pull/40187",
    looks_like="the last weight is neither normalised nor scaled",
)  # fmt: skip
def leaves_the_last_weight_as_a_score(*call: Any, **options: Any) -> Result:
    return route(*call, **options, fault="one weight short")
