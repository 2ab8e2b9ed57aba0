"""Right Triton kernels for partial_rope."""

from __future__ import annotations

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._rope_triton import rotated
from lingspec.conformance.mutants._rows_triton import PROFILES, Tensor

OP = "partial_rope"


@honest(OP, profile=PROFILES, differs="a Triton kernel of 64 heads a program, one rounding")
def rotates_64_heads_a_program(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin)
