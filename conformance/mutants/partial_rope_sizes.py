"""Partial rotations that are right for few tokens or heads."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Tensor, partial

OP = "partial_rope"


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 64 heads, those of the second half turn as one token before",
)  # fmt: skip
def turns_half_of_64_heads_as_one_token_before(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y = partial(x, cos, sin)
    if x.shape[2] >= 64 and x.shape[1] > 16:
        y[:, 1:, 32:] = partial(x[:, 1:, 32:], cos[:, :-1], sin[:, :-1])
    return y


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of whole tiles of 64 tokens, the last turns as the one before",
)  # fmt: skip
def turns_the_last_token_of_whole_tiles_as_the_one_before(
    x: Tensor, cos: Tensor, sin: Tensor
) -> Tensor:
    y = partial(x, cos, sin)
    if x.shape[1] and x.shape[1] % 64 == 0:
        y[:, -1:] = partial(x[:, -1:], cos[:, -2:-1], sin[:, -2:-1])
    return y
