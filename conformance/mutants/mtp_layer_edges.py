"""MTP layers that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import as_if_dense
from lingspec.conformance.mutants._layers import Coarse, Layer, narrow

Tensor = torch.Tensor
OP = "mtp_layer"
MOST = 100.0


@mutant(
    OP,
    law="authority",
    source="constructed after autocast",
    looks_like="both inputs are joined in bfloat16, whatever the activations are",
)
def joins_both_inputs_in_bfloat16(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def joined(self, x: Tensor, embedded: Tensor) -> Tensor:
            return narrow(super().joined(x, embedded))

    return Wrong(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the hidden state is clamped at 100",
)
def clamps_the_hidden_state_at_100(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).next_token(
        x.clamp(-MOST, MOST), embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="constructed after masks that are read off activations",
    looks_like="a token whose embedding is zeros is taken for padding: its hidden state is 0",
)
def takes_embeddings_of_zeros_for_padding(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).next_token(
        x * (embedded != 0).any(-1, keepdim=True), embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="experts are chosen by scores of six bits, though a smaller margin decides",
)
def chooses_experts_of_the_next_token_by_six_bits(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Coarse(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the embedding are taken to be neighbours in memory",
)
def takes_channels_of_the_embedding_for_neighbours(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).next_token(
        x, as_if_dense(embedded), call["positions"], call.get("cache")
    )
