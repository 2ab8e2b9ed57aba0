"""Wrong implementations of moe_block."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor
OP = "moe_block"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the shared expert is left out",
)
def leaves_the_shared_expert_out(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def shared(self, x: Tensor) -> Tensor | float:
            return 0.0 * super().shared(x)

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="G17 https://github.com/sgl-project/sglang/issues/31475",
    looks_like="the shared expert is added by each of two ranks",
)
def adds_the_shared_expert_once_per_rank(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def shared(self, x: Tensor) -> Tensor | float:
            return 2.0 * super().shared(x)

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="G09 as of the shared expert",
    looks_like="the shared expert is multiplied by the scaling of routed ones",
)
def scales_the_shared_expert_with_the_others(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def shared(self, x: Tensor) -> Tensor | float:
            factor: float = self.config["routed_scaling_factor"]
            return factor * super().shared(x)

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="experts are chosen by scores without their bias",
)
def chooses_without_the_bias(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            bias = self.weights["mlp.gate.expert_bias"]
            self.weights["mlp.gate.expert_bias"] = torch.zeros_like(bias)
            return super().routed(x)

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="experts are sorted, and their weights are not",
)
def pairs_weights_with_experts_in_order(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            weights, chosen = super().routed(x)
            return weights, chosen.sort(dim=-1).values

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="permutation",
    source="constructed after capacity factors",
    looks_like="an expert takes no more tokens than its share of the batch",
)
def drops_tokens_beyond_a_capacity(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            weights, chosen = super().routed(x)
            for e in sorted(set(chosen.flatten().tolist())):
                token, place = (chosen == e).nonzero(as_tuple=True)
                room = -(-2 * chosen.numel() // self.config["num_experts"])
                weights[token[room:], place[room:]] = 0.0
            return weights, chosen

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="H09 as of unfused matrices",
    looks_like="gate and up are exchanged",
)
def exchanges_gate_and_up_of_experts(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def linear(self, x: Tensor, name: str) -> Tensor:
            other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
            head, _, last = name.rpartition(".")
            return super().linear(x, f"{head}.{other.get(last, last)}")

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="an expert of the second half of a group has the weights of the first",
)
def numbers_experts_within_their_group(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def dense(self, x: Tensor, name: str) -> Tensor:
            head, _, last = name.rpartition(".")
            return super().dense(x, f"{head}.{int(last) // 2 * 2}" if last.isdigit() else name)

    return Wrong(weights, config, call["layer"]).experts(x)
