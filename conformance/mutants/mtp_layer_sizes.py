"""MTP layers that are right for near positions."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor
OP = "mtp_layer"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions are held in fifteen bits",
)
def holds_positions_in_fifteen_bits(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    layer = Layer(weights, config, call["layer"])
    return layer.next_token(x, embedded, call["positions"] % 32768, call.get("cache"))
