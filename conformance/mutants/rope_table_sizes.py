"""Rotary tables that are right for few positions."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Result, Tensor, table

OP = "rope_table"


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="positions from the 2048th of a row on are those of the position before",
)  # fmt: skip
def takes_the_position_before_from_the_2048th_on(positions: Tensor, **options: Any) -> Result:
    if positions.dim() and positions.shape[-1] > 2048:
        positions = positions.clone()
        positions[..., 2048:] = positions[..., 2047:-1].clone()
    return table(positions, **options)
