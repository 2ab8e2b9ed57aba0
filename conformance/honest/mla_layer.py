"""Right implementations of mla_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest._layers import Absorbed
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor


@honest("mla_layer", differs="keys and values expanded, one division at the end")
def mla_layer_expanded(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Layer(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@honest("mla_layer", differs="in the latent space, by softmax and einsum")
def mla_layer_absorbed(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Absorbed(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))
