"""Gated norms of groups that go wrong just inside what the specification says."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import Tensor, gated

OP = "gated_group_rms_norm"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="sums of squares are multiplied by the width of the group, divided by its square",
)
def multiplies_sums_by_the_width_of_the_group(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        width = rows.shape[-1]
        return width * rows.square().sum(-1, keepdim=True) / width**2

    return gated(x, gate, weight, groups=groups, eps=eps, mean=mean)


@mutant(
    OP,
    law="authority",
    source="constructed after F01",
    looks_like="groups of one channel are taken for none, and are not normalised",
)
def leaves_groups_of_one_channel_as_they_are(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    if groups < x.shape[-1]:
        return gated(x, gate, weight, groups=groups, eps=eps)
    return gated(x, gate, weight, groups=groups, eps=eps, inverse=lambda mean: 0 * mean + 1)
