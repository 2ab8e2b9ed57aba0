"""Layers that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import as_if_dense
from lingspec.conformance.mutants._layers import Coarse, Layer, narrow

Tensor = torch.Tensor
OP = "decoder_layer"
MOST = 100.0


@mutant(
    OP,
    law="authority",
    source="constructed after autocast",
    looks_like="the residual is kept in bfloat16, whatever the activations are",
)
def keeps_the_residual_in_bfloat16(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Layer(weights, config, call["layer"]).whole(
        narrow(x), call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the residual is clamped at 100",
)
def clamps_the_residual_at_100(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Layer(weights, config, call["layer"]).whole(
        x.clamp(-MOST, MOST), call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="constructed after masks that are read off activations",
    looks_like="tokens of zeros are taken for padding, and returned as they are",
)
def returns_tokens_of_zeros_as_they_are(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    y = Layer(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))
    return torch.where((x == 0).all(-1, keepdim=True), x, y)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="experts are chosen by scores of six bits, though a smaller margin decides",
)
def chooses_experts_of_a_layer_by_six_bits(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Coarse(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the residual are taken to be neighbours in memory",
)
def takes_channels_of_the_sum_for_neighbours(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).whole(
        as_if_dense(x), call["positions"], call.get("cache")
    )
