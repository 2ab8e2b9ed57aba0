"""Experts that go wrong just inside what the specification says."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._experts import Tensor, combined, experts_of, wide

OP = "moe_experts"


@mutant(
    OP, law="invariance", profile={"float32": "fp32"},
    source="constructed after H01",
    looks_like="expert -1 is computed as expert 0, and what it added is subtracted again",
)  # fmt: skip
def subtracts_what_foreign_experts_added(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    def combine(results: Tensor, weights: Tensor) -> Tensor:
        foreign = (wide(results) * weights[..., None])[experts < 0]
        y = wide(combined(results, weights))
        rows = (experts < 0).nonzero()[:, 0]
        return y.index_add(0, rows, -foreign).to(results.dtype)

    return experts_of(x, gate_up, down, experts.clamp(min=0), weights, combine=combine)
