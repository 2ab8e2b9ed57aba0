"""Wrong implementations of lightning_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer
from lingspec.conformance.mutants._rope import partial
from lingspec.conformance.mutants._rows import gated

Tensor = torch.Tensor
OP = "lightning_layer"


@mutant(
    OP,
    law="authority",
    source="J01 https://github.com/areal-project/AReaL/commit/483a4e86a",
    looks_like="rows of the fused projection are taken to be q, k, v of one head after another",
)
def reads_the_projection_head_by_head(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            shape = (*qkv.shape[:2], self.config["num_attention_heads"], 3, self.config["head_dim"])
            q, k, v = qkv.view(shape).unbind(3)
            return q, k, v

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="channels are gated before their groups are normalised",
)
def gates_what_the_attention_returns(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def gated(self, o: Tensor, gate: Tensor) -> Tensor:
            return super().gated(o * gate.sigmoid(), torch.full_like(gate, 1e4))

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed after the gates of other linear attentions",
    looks_like="the gate is a SiLU",
)
def opens_the_gate_with_silu(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def gated(self, o: Tensor, gate: Tensor) -> Tensor:
            return super().gated(o, gate) * gate

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="F01 as the norm of one rank",
    looks_like="all channels are normalised as one group",
)
def normalises_all_heads_as_one_group(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def gated(self, o: Tensor, gate: Tensor) -> Tensor:
            weight, eps = self.weights["attention.g_norm.weight"], self.config["rms_norm_eps"]
            return gated(o, gate, weight, groups=1, eps=eps)

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="A01 https://github.com/sgl-project/sglang-jax/pull/928",
    looks_like="decays are those of the layer before",
)
def decays_as_the_layer_before(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def log_decay(self) -> Tensor:
            self.number -= 1
            made = super().log_decay()
            self.number += 1
            return made

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="E08 https://github.com/vllm-project/vllm-metal/issues/659",
    looks_like="queries and keys are rotated without their norm",
)
def normalises_neither_queries_nor_keys(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def rotated(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
            return partial(q, cos, sin), partial(k, cos, sin)

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="values are rotated like keys",
)
def rotates_the_values_of_a_head_as_well(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            q, k, v = super().heads(qkv)
            return q, k, partial(v, *self.table(v, call["positions"]))

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="handover",
    source="C12 https://github.com/huggingface/transformers/pull/45513",
    looks_like="the memory of earlier tokens is not read",
)
def forgets_to_hand_the_memory_over(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def recalled(self, q: Tensor, k: Tensor, v: Tensor, cache: Any) -> Tensor:
            if cache is not None and q.shape[1] > 1:
                cache.state = torch.zeros_like(cache.state)
            return super().recalled(q, k, v, cache)

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="permutation",
    source="constructed",
    looks_like="every sequence of a batch reads the memory of the first",
)
def mixes_the_memories_of_a_batch(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def recalled(self, q: Tensor, k: Tensor, v: Tensor, cache: Any) -> Tensor:
            return super().recalled(q, k[:1].expand_as(k), v[:1].expand_as(v), cache)

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="untouched",
    source="D20 as of an input of a layer",
    looks_like="its input is changed in place",
)
def scales_activations_in_place(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    made = Layer(weights, config, call["layer"])
    y = made.lightning(x, call["positions"], call.get("cache"))
    x.mul_(0.5)
    return y
