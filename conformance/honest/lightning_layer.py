"""Right implementations of lightning_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest._layers import Chunks
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor


@honest("lightning_layer", differs="token after token")
def lightning_layer_by_token(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    made = Layer(weights, config, call["layer"])
    return made.lightning(x, call["positions"], call.get("cache"))


@honest("lightning_layer", differs="in chunks of 16")
def lightning_layer_in_chunks(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    made = Chunks(weights, config, call["layer"])
    return made.lightning(x, call["positions"], call.get("cache"))
