"""Right implementations of mtp_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest._layers import All
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor


@honest("mtp_layer", differs="as the lines are written")
def mtp_layer_plain(x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    made = Layer(weights, config, call["layer"])
    return made.next_token(x, embedded, call["positions"], call.get("cache"))


@honest("mtp_layer", differs="the latent space, all experts")
def mtp_layer_otherwise(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    made = All(weights, config, call["layer"])
    return made.next_token(x, embedded, call["positions"], call.get("cache"))
