"""Wrong Triton kernels for add_rms_norm."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows_triton import PROFILES, Result, Tensor, norm

OP = "add_rms_norm"


@mutant(
    OP,
    law="untouched",
    profile=PROFILES,
    source="constructed after fused_add_rms_norm, which works in place",
    looks_like="the kernel stores the sum over the residual",
)
def stores_the_sum_over_the_residual(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return norm(x, weight, eps=eps, residual=residual, fault="in place")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="F14 https://github.com/linkedin/Liger-Kernel/commit/f4a51fb8",
    looks_like="the mean is over all lanes of the tile",
)
def takes_the_mean_over_all_lanes(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return norm(x, weight, eps=eps, residual=residual, fault="padded length")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed",
    looks_like="rows are divided by their largest entry",
)
def divides_rows_by_their_largest_entry(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    return norm(x, weight, eps=eps, residual=residual, fault="largest first")
