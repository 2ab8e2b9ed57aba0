"""Lightning layers that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import as_if_dense
from lingspec.conformance.mutants._layers import Layer, narrow
from lingspec.conformance.mutants._lightning import recurrent

Tensor = torch.Tensor
OP = "lightning_layer"
MOST = 100.0


@mutant(
    OP,
    law="authority",
    source="constructed after autocast",
    looks_like="queries, keys and values are projected in bfloat16, whatever the activations are",
)
def projects_queries_keys_and_values_in_bfloat16(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return super().heads(narrow(qkv))

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="activations are clamped at 100",
)
def clamps_activations_of_attention_at_100(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).lightning(
        x.clamp(-MOST, MOST), call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="constructed after masks that are read off activations",
    looks_like="tokens of zeros are taken for padding, over which no memory decays",
)
def skips_tokens_of_zeros_as_padding(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def recalled(self, q: Tensor, k: Tensor, v: Tensor, cache: Any) -> Tensor:
            o, states = torch.zeros_like(v), []
            for b, live in enumerate((x != 0).any(-1)):
                start = None if cache is None else cache.state[b : b + 1]
                of_q, of_k, of_v = (part[b : b + 1, live] for part in (q, k, v))
                scale = self.config["head_dim"] ** -0.5
                decay = self.log_decay().to(q.dtype)
                some, state = recurrent(of_q, of_k, of_v, decay, scale=scale, initial_state=start)
                o[b, live] = some[0]
                states.append(state)
            if cache is not None and states:
                cache.state = torch.cat(states)
            return o

    return Wrong(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the activations are taken to be neighbours in memory",
)
def takes_channels_of_activations_for_neighbours(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).lightning(
        as_if_dense(x), call["positions"], call.get("cache")
    )
