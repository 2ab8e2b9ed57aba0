"""Right Triton kernels for add_rms_norm."""

from __future__ import annotations

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._rows_triton import PROFILES, Result, Tensor, norm

OP = "add_rms_norm"


@honest(
    OP,
    profile=PROFILES,
    differs="a Triton kernel of many rows a program that normalises the wide sum",
)
def adds_and_normalises_many_rows_a_program(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return norm(x, weight, eps=eps, residual=residual)
