"""Right implementations of moe_block."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest._layers import Everyone
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor


@honest("moe_block", differs="expert after expert")
def moe_block_by_expert(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Layer(weights, config, call["layer"]).experts(x)


@honest("moe_block", differs="all experts on all tokens, added from the last")
def moe_block_of_everyone(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return Everyone(weights, config, call["layer"]).experts(x)
