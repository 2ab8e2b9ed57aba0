"""Right Triton kernels for lightning attention."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._lightning_triton import PROFILES, Result, lightning

OP = "lightning_attention"


@honest(
    OP,
    profile={dtype: PROFILES[dtype] for dtype in ("float32", "float16")},
    differs="a Triton kernel over tiles of 16 tokens; all operands rounded",
)
def runs_a_triton_kernel_of_16_tokens(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options)


@honest(
    OP,
    profile={"bfloat16": PROFILES["bfloat16"]},
    differs="a Triton kernel over tiles of 64 tokens; all operands rounded",
)
def runs_a_triton_kernel_of_64_tokens(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, chunk=64)


@honest(
    OP,
    profile={"float32": "tf32"},
    differs="a Triton kernel with tf32 products, declared as such",
)
def runs_a_triton_kernel_with_tf32_products(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, chunk=32, precision="tf32")
