"""Wrong Triton kernels for dequantisation."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._fp8_triton import Tensor, dequantize

OP = "fp8_dequantize"
ALL = {"float32": "fp32", "bfloat16": "fp32"}


@mutant(
    OP, law="authority", profile=ALL,
    source="constructed",
    looks_like="codes of power 0 are read with a leading 1",
)  # fmt: skip
def gives_subnormal_codes_a_leading_one(*call: Any, **options: Any) -> Tensor:
    return dequantize(*call, **options, fault="subnormals have a leading one")


@mutant(
    OP, law="authority", profile=ALL,
    source="constructed after I01 https://github.com/pytorch/FBGEMM/issues/6159",
    looks_like="all blocks of a row have the scale of the first",
)  # fmt: skip
def reads_the_scales_of_the_first_blocks(*call: Any, **options: Any) -> Tensor:
    return dequantize(*call, **options, fault="blocks of the first column")


@mutant(
    OP, law="strides", profile=ALL,
    source="L01 https://github.com/vllm-project/vllm/pull/47671",
    looks_like="the offset of a row is computed in 32 bits",
)  # fmt: skip
def computes_offsets_of_codes_in_32_bits(*call: Any, **options: Any) -> Tensor:
    return dequantize(*call, **options, fault="int32 offsets")
