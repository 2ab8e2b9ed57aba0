"""Norms and rotations that are right for few heads."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Result, Tensor, both

OP = "qk_norm_rope"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="heads from the 16th on are left as they are",
)  # fmt: skip
def turns_sixteen_heads(q: Tensor, k: Tensor, *call: Any, **options: Any) -> Result:
    made = both(q, k, *call, **options)
    for got, x in zip(made, (q, k), strict=True):
        got[:, :, 16:] = x[:, :, 16:]
    return made
