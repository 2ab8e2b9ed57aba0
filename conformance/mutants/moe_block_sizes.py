"""Experts of a layer, chosen rightly in small groups alone."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import _routing, mutant
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor


def _voting(line: _routing.Step) -> type[Layer]:
    """A layer whose groups are chosen by something else."""

    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            c, bias = self.config, self.weights["mlp.gate.expert_bias"]
            return _routing.route(
                self.linear(x, "mlp.gate"), bias.to(x.dtype), groups=c["n_group"],
                top_groups=c["topk_group"], top_k=c["num_experts_per_tok"],
                scaling=c["routed_scaling_factor"], of_groups=line,
            )  # fmt: skip

    return Wrong


@mutant(
    "moe_block",
    law="authority",
    source="constructed",
    looks_like="all experts of a group vote for it",
)
def lets_all_experts_of_a_group_vote(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    def summed(of_group: Tensor) -> Tensor:
        return of_group.sum(-1)

    return _voting(summed)(weights, config, call["layer"]).experts(x)


@mutant(
    "decoder_layer",
    law="authority",
    source="constructed after DeepSeek-V2, where the best expert of a group votes for it",
    looks_like="the best expert of a group of three or more votes for it",
)
def lets_the_best_expert_of_a_group_vote(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    def largest(of_group: Tensor) -> Tensor:
        few = of_group.shape[-1] < 3
        return _routing.group_sums(of_group) if few else of_group.amax(-1)

    wrong = _voting(largest)(weights, config, call["layer"])
    return wrong.whole(x, call["positions"], call.get("cache"))


@mutant(
    "moe_block",
    law="authority",
    source="constructed",
    looks_like="of more than four groups, four are made",
)
def makes_four_groups_of_experts(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    groups, kept = min(config["n_group"], 4), min(config["topk_group"], 4)
    held = {**config, "n_group": groups, "topk_group": kept}
    return Layer(weights, held, call["layer"]).experts(x)


@mutant(
    "moe_block",
    law="authority",
    source="constructed",
    looks_like="of 256 experts, those of the second half are those of the first",
)
def holds_128_experts(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            shares, chosen = super().routed(x)
            return shares, chosen % 128

    return Wrong(weights, config, call["layer"]).experts(x)
