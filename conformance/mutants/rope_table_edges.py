"""Rotary tables that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Result, Scaling, Tensor, frequencies, table

OP = "rope_table"
CONTEXT = 131_072


@mutant(
    OP,
    law="authority",
    source="constructed after embeddings whose position 0 is padding",
    looks_like="position 0 is taken for padding, and has the angles of position 1",
)
def starts_positions_at_one(positions: Tensor, **options: Any) -> Result:
    return table(positions.clamp(min=1), **options)


@mutant(
    OP,
    law="identities",
    source="constructed",
    looks_like="a factor of 1 is taken for one not set, and derived from the contexts",
)
def takes_a_factor_of_one_for_one_not_set(positions: Tensor, **options: Any) -> Result:
    def derived(R: int, theta: float, scaling: Scaling) -> Tensor:
        if scaling is not None and scaling["factor"] == 1:
            factor = CONTEXT / scaling["original_max_position_embeddings"]
            scaling = {**scaling, "factor": factor}
        return frequencies(R, theta, scaling)

    return table(positions, **options, frequencies=derived)
