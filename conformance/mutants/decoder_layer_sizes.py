"""Layers that are right for few experts."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor
OP = "decoder_layer"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="of more than eight experts for a token, the last is left out",
)
def takes_eight_experts_at_most(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
            shares, chosen = super().routed(x)
            return shares[:, :8], chosen[:, :8]

    wrong = Wrong(weights, config, call["layer"])
    return wrong.whole(x, call["positions"], call.get("cache"))
