"""RMS norms that go wrong just inside what the specification says."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import Tensor, norm

OP = "rms_norm"
LANES = 32


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="all 32 lanes add the whole sum of squares up, which is divided by 32 afterwards",
)
def adds_the_total_of_every_lane_up(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        return LANES * rows.square().sum(-1, keepdim=True) / (LANES * rows.shape[-1])

    return norm(x, weight, eps=eps, mean=mean)
