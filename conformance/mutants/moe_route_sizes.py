"""Routers that are right for even groups, few tokens and usual factors."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._routing import Result, Tensor, group_sums, route

OP = "moe_route"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="the last expert of a group of odd size does not count for its group",
)  # fmt: skip
def pairs_the_experts_of_a_group(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    def of_groups(x: Tensor) -> Tensor:
        size = x.shape[-1]
        return group_sums(x[..., : size - 1] if size % 2 and size > 3 else x)

    return route(logits, bias, **options, of_groups=of_groups)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="the scaling is held in bfloat16",
)  # fmt: skip
def holds_the_scaling_in_bfloat16(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    held = torch.tensor(options.pop("scaling"), dtype=torch.bfloat16)
    return route(logits, bias, **options, scaling=float(held))


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="tokens from the 128th on are chosen for without the biases",
)  # fmt: skip
def biases_128_tokens(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    weights, chosen = route(logits, bias, **options)
    if len(logits) > 128:
        more, others = route(logits[128:], 0 * bias, **options)
        weights, chosen = torch.cat([weights[:128], more]), torch.cat([chosen[:128], others])
    return weights, chosen


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of groups of more than 32 experts, the first 32 are looked at",
)  # fmt: skip
def looks_at_32_experts_of_a_group(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    size = logits.shape[1] // options["groups"]
    behind = torch.arange(logits.shape[1]) % size >= 32
    return route(logits, bias.masked_fill(behind, -1e30) if size > 32 else bias, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 32 experts of a group, the first 32 vote for it",
)  # fmt: skip
def lets_a_warp_of_experts_vote(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    def of_groups(x: Tensor) -> Tensor:
        return group_sums(x[..., :32])

    return route(logits, bias, **options, of_groups=of_groups)


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 256 experts, tokens from the 1024th on have the weights of the token before",
)  # fmt: skip
def gives_late_tokens_of_a_model_the_weights_of_the_token_before(
    logits: Tensor, bias: Tensor, **options: Any
) -> Result:
    weights, experts = route(logits, bias, **options)
    if logits.shape[1] >= 256:
        weights[1024:] = weights[1023:-1].clone()
    return weights, experts
