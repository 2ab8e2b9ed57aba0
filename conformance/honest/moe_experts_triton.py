"""A right Triton kernel for moe_experts."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._moe_triton import Tensor, experts_of

OP = "moe_experts"
PROFILE = {"float32": "fp32", "bfloat16": "fp32+spec=bf16"}


@honest(OP, profile=PROFILE, differs="a Triton kernel, one program a token")
def runs_a_program_for_each_token(*call: Any, **options: Any) -> Tensor:
    return experts_of(*call, **options)
