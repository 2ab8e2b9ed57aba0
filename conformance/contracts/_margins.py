"""Tokens of a composite whose experts no margin decides."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lingspec.conformance.accuracy.choices import routed, scored
from lingspec.conformance.accuracy.limits import ANYTHING, Limits
from lingspec.conformance.accuracy.running import Running, stored
from lingspec.conformance.case import Call
from lingspec.reference import moe_route
from lingspec.reference.config import LingConfig

__all__ = ["near_ties", "open_where"]


def near_ties(logits: Running, call: Call, layer: int) -> Tensor:
    """(B, T) bool: what may be wrong with the router's logits (B, T, E) may exchange experts."""
    config = LingConfig.from_dict(call.params["config"])
    bias = call.tensors[f"weights.model.layers.{layer}.mlp.gate.expert_bias"]
    _, biased = scored(logits.flatten(0, 1), stored(bias, logits.profile))
    groups, top = config.n_group, config.topk_group
    _, experts = moe_route(
        logits.value.flatten(0, 1), bias.double(), groups=groups, top_groups=top,
        top_k=config.num_experts_per_tok, scaling=1.0,
    )  # fmt: skip
    free = torch.zeros(experts.shape[0], dtype=torch.bool)
    choice = routed(biased, experts, free, groups=groups, top_groups=top, likely=not call.coherent)
    return choice.undecided().reshape(logits.shape[:2])


def open_where(limits: Limits, undecided: Tensor) -> Limits:
    """The same limits, but anything is right where ``undecided``, which broadcasts, is true."""
    room = torch.zeros_like(limits.bound).masked_fill(undecided, ANYTHING)
    return dataclasses.replace(
        limits, bound=torch.maximum(limits.bound, room), likely=torch.maximum(limits.likely, room),
        deviation=limits.deviation.masked_fill(undecided, 0.0),
    )  # fmt: skip
