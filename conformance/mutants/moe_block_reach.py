"""Wrong implementations of moe_block that are right for the usual numbers of a configuration."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer
from lingspec.conformance.mutants._memory import as_if_dense_by_token, on_the_object

Tensor = torch.Tensor
OP = "moe_block"


def _with(config: Any, **usual: Any) -> dict[str, Any]:
    return {**config, **usual}


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scaling of routed experts is 2.5, whatever the configuration says",
)
def knows_the_scaling_of_routed_experts(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, _with(config, routed_scaling_factor=2.5), call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the router's weight is held in bfloat16",
)
def holds_the_router_s_weight_in_bfloat16(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def linear(self, x: Tensor, name: str) -> Tensor:
            if name != "mlp.gate":
                return super().linear(x, name)
            return x @ self.weights["mlp.gate.weight"].bfloat16().to(x.dtype).mT

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="of several shared experts, the channels of the first alone",
)
def has_one_shared_expert(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def dense(self, x: Tensor, name: str) -> Tensor:
            if name != "mlp.shared_experts":
                return super().dense(x, name)
            one = self.config["moe_intermediate_size"]
            gate, up, down = (
                self.weights[f"{name}.{n}_proj.weight"] for n in ("gate", "up", "down")
            )
            return (torch.nn.functional.silu(x @ gate[:one].mT) * (x @ up[:one].mT)) @ down[
                :, :one
            ].mT

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the weights of two experts do not add up to the scaling",
)
def normalises_weights_of_three_experts_and_more(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            found, chosen = super().routed(x)
            if chosen.shape[1] == 2:
                scores = torch.sigmoid(self.linear(x, "mlp.gate")).gather(1, chosen)
                found = scores * self.config["routed_scaling_factor"]
            return found, chosen

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the weight of a single expert is the scaling itself",
)
def normalises_the_weight_of_a_single_expert(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            found, chosen = super().routed(x)
            if chosen.shape[1] == 1 and self.config["n_group"] > 1:
                found = torch.full_like(found, self.config["routed_scaling_factor"])
            return found, chosen

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="the bias of the router is kept on its tensor",
)
def keeps_the_bias_of_a_tensor(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            bias = self.weights["mlp.gate.expert_bias"]
            self.weights["mlp.gate.expert_bias"] = on_the_object(bias, bias.clone)
            return super().routed(x)

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="strides",
    source="constructed after B18 https://github.com/fla-org/flash-linear-attention/commit/71ebc498",
    looks_like="tokens that follow one another are taken for the whole batch",
)
def takes_a_prefix_of_tokens_for_all(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Layer(weights, config, call["layer"]).experts(as_if_dense_by_token(x))
