"""Interleaved rotations that are right for few tokens or heads."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Tensor, interleaved

OP = "interleaved_rope"


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 64 heads, those of the second half turn as one token before",
)  # fmt: skip
def turns_pairs_of_half_of_64_heads_as_one_token_before(
    x: Tensor, cos: Tensor, sin: Tensor
) -> Tensor:
    y = interleaved(x, cos, sin)
    if x.shape[2] >= 64 and x.shape[1] > 16:
        y[:, 1:, 32:] = interleaved(x[:, 1:, 32:], cos[:, :-1], sin[:, :-1])
    return y
