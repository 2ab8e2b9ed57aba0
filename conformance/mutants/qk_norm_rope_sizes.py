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


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 64 heads of keys, those of the second half are left as they are",
)  # fmt: skip
def leaves_half_of_64_heads_of_keys(q: Tensor, k: Tensor, *call: Any, **options: Any) -> Result:
    made = both(q, k, *call, **options)
    if k.shape[2] >= 64 and q.shape[2] >= 64 and k.shape[1] > 16:
        made[1][:, :, 32:] = k[:, :, 32:]
    return made
