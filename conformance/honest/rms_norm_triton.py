"""Right Triton kernels for rms_norm."""

from __future__ import annotations

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._rows_triton import PROFILES, Tensor, norm

OP = "rms_norm"


@honest(OP, profile=PROFILES, differs="a Triton kernel of many rows a program, one rounding")
def normalises_many_rows_a_program(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps)[0]
