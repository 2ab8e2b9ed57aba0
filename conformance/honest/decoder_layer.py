"""Right implementations of decoder_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest._layers import All
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor


@honest("decoder_layer", differs="as the lines are written")
def decoder_layer_plain(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Layer(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@honest("decoder_layer", differs="chunks, the latent space, all experts")
def decoder_layer_otherwise(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return All(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))
