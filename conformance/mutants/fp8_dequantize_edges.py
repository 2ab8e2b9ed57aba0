"""Dequantisation that goes wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._fp8 import Block, Tensor, dequantize

OP = "fp8_dequantize"
FP32 = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32", "float64": "fp64"}
BETWEEN_BIASES = 2.0**8  # of the exponents of e4m3 and of float16
SMALLEST_NORMAL = 2.0**-6
MOST = torch.finfo(torch.float8_e5m2).max


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed after kernels that shift codes into float16 and correct the scale",
    looks_like="the scale is multiplied by 2^8 for codes read with another bias: it overflows",
)  # fmt: skip
def folds_the_bias_of_codes_into_the_scale(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        return q.to(wide) / BETWEEN_BIASES

    return dequantize(q, scale * BETWEEN_BIASES, block=block, dtype=dtype, decode=decode)


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed after I05 https://github.com/inclusionAI/linghe/commit/7f89773",
    looks_like="a scale is taken to be 1e-30 at least",
)  # fmt: skip
def takes_scales_to_be_1e_30_at_least(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    return dequantize(q, scale.clamp(min=1e-30), block=block, dtype=dtype)


@mutant(
    OP, law="authority", profile={"float16": "fp32"}, source="constructed",
    looks_like="products saturate at 57,344, the largest of another format of 5 exponent bits",
)  # fmt: skip
def saturates_products_at_57344(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    x = dequantize(q, scale, block=block, dtype=dtype)
    return x.clamp(-MOST, MOST)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="codes below the smallest normal one have no sign, as 0 need not have one",
)  # fmt: skip
def reads_no_sign_of_subnormal_codes(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        x = q.to(wide)
        return torch.where(x.abs() < SMALLEST_NORMAL, x.abs(), x)

    return dequantize(q, scale, block=block, dtype=dtype, decode=decode)
