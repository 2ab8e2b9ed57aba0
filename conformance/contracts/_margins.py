"""Tokens of a composite whose experts no margin decides."""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.conformance.accuracy import functions
from lingspec.conformance.accuracy.choices import routed
from lingspec.conformance.accuracy.running import Running, stored
from lingspec.conformance.case import Call
from lingspec.reference import moe_route
from lingspec.reference.config import LingConfig

__all__ = ["near_ties"]


def near_ties(logits: Running, call: Call) -> Tensor:
    """(B, T) bool: what may be wrong with the router's logits (B, T, E) may exchange experts."""
    config, layer = LingConfig.from_dict(call.params["config"]), call.params["layer"]
    bias = call.tensors[f"weights.model.layers.{layer}.mlp.gate.expert_bias"]
    biased = functions.sigmoid(logits.flatten(0, 1)) + stored(bias, logits.profile)
    groups, top = config.n_group, config.topk_group
    _, experts = moe_route(
        logits.value.flatten(0, 1), bias.double(), groups=groups, top_groups=top,
        top_k=config.num_experts_per_tok, scaling=1.0,
    )  # fmt: skip
    free = torch.zeros(experts.shape[0], dtype=torch.bool)
    choice = routed(biased, experts, free, groups=groups, top_groups=top, likely=not call.coherent)
    return choice.undecided().reshape(logits.shape[:2])
