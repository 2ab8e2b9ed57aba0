"""Experts of a layer that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import as_if_dense
from lingspec.conformance.mutants._layers import Coarse, Layer, narrow

Tensor = torch.Tensor
OP = "moe_block"
MOST = 100.0


@mutant(
    OP,
    law="authority",
    source="constructed after autocast",
    looks_like="experts read tokens in bfloat16, whatever the activations are",
)
def feeds_experts_in_bfloat16(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def dense(self, x: Tensor, name: str) -> Tensor:
            return super().dense(narrow(x), name)

    return Wrong(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="tokens are clamped at 100",
)
def clamps_tokens_at_100(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Layer(weights, config, call["layer"]).experts(x.clamp(-MOST, MOST))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="experts are chosen by scores of six bits, though a smaller margin decides",
)
def chooses_experts_by_scores_of_six_bits(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Coarse(weights, config, call["layer"]).experts(x)


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the tokens are taken to be neighbours in memory",
)
def takes_channels_of_tokens_for_neighbours(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).experts(as_if_dense(x))
