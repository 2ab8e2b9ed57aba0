"""A right Triton kernel for moe_logits."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._moe_triton import Tensor, logits

OP = "moe_logits"
PROFILE = {"float32": "fp32", "bfloat16": "fp32"}


@honest(OP, profile=PROFILE, differs="a Triton kernel over tiles of 32 channels")
def multiplies_tiles_in_triton(*call: Any, **options: Any) -> Tensor:
    return logits(*call, **options, tile=32)
