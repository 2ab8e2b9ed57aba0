"""Experts that are right for few of them, or narrow ones."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._experts import Tensor, experts_of

OP = "moe_experts"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 128 channels, what no tile of 128 holds is lost",
)  # fmt: skip
def returns_whole_tiles_of_128_channels(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    y = experts_of(x, gate_up, down, experts, weights)
    if y.shape[1] > 128:
        y[:, y.shape[1] // 128 * 128 :] = 0.0
    return y


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="hidden channels from the 64th on are left out",
)  # fmt: skip
def computes_64_hidden_channels(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    down = down.clone()
    down[:, :, 64:] = 0.0
    return experts_of(x, gate_up, down, experts, weights)


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of more than 1024 choices in all, the first of the last tokens counts twice",
)  # fmt: skip
def counts_the_first_choice_of_late_tokens_twice(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    if experts.numel() > 1024:
        weights = weights.clone()
        weights[len(weights) // 2 :, 0] *= 2
    return experts_of(x, gate_up, down, experts, weights)
