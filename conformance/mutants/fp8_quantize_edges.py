"""Quantisation that goes wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._fp8 import Block, Result, Tensor, nearest, quantize

OP = "fp8_quantize"
FP32 = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32", "float64": "fp64"}
SMALLEST_NORMAL = 2.0**-6


@mutant(
    OP, law="authority", profile=FP32, source="constructed after I05",
    looks_like="codes below the smallest normal one have no sign, as 0 need not have one",
)  # fmt: skip
def keeps_no_sign_of_subnormal_codes(x: Tensor, *, block: Block = None) -> Result:
    def code(quotient: Tensor) -> Tensor:
        q = nearest(quotient).float()
        return torch.where(q.abs() < SMALLEST_NORMAL, q.abs(), q).to(torch.float8_e4m3fn)

    return quantize(x, block=block, code=code)
