"""A right Triton kernel for fp8_dequantize."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._fp8_triton import Tensor, dequantize

OP = "fp8_dequantize"
PROFILE = {"float32": "fp32", "bfloat16": "fp32"}


@honest(OP, profile=PROFILE, differs="a Triton kernel that takes bytes apart")
def takes_bytes_apart_in_triton(*call: Any, **options: Any) -> Tensor:
    return dequantize(*call, **options)
