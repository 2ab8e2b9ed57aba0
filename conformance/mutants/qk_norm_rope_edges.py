"""Norms and rotations of queries and keys that go wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Result, Tensor, both

OP = "qk_norm_rope"
PARTS = 4


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the squares of a head are added up as the square of a number four times as large",
)
def squares_heads_after_quadrupling_them(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, *,
    eps: float,
) -> Result:  # fmt: skip
    def mean(rows: Tensor) -> Tensor:
        return (PARTS * rows).square().mean(-1, keepdim=True) / PARTS**2

    return both(q, k, q_weight, k_weight, cos, sin, eps=eps, mean=mean)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="heads of two rotary dims are not rotated: vectors of four are the least",
)
def rotates_no_fewer_than_four_dims(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, *,
    eps: float,
) -> Result:  # fmt: skip
    if cos.shape[-1] == 1:
        cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
    return both(q, k, q_weight, k_weight, cos, sin, eps=eps)
