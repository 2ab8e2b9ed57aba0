"""Wrong Triton kernels for merging attentions."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla_triton import Result, merge

OP = "merge_attention"
PROFILES = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="D06 https://github.com/vllm-project/vllm/pull/52796",
    looks_like="exp2 is taken of natural logarithms",
)
def takes_powers_of_two_of_natural_masses(*call: Any) -> Result:
    return merge(*call, fault="base two")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="L04 https://github.com/fla-org/flash-linear-attention/commit/ccb0ff94",
    looks_like="columns from 64 on are never stored",
)
def stores_the_first_64_columns_alone(*call: Any) -> Result:
    return merge(*call, fault="64 columns")
