"""The mixture of experts of a layer, between its norm and the residual addition.

Letters: B batch, T tokens, D hidden size, E experts, I hidden channels, k chosen experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lingspec.reference.config import LingConfig
from lingspec.reference.ops.moe_experts import combined, expert
from lingspec.reference.ops.moe_logits import moe_logits
from lingspec.reference.ops.moe_route import moe_route, weighed
from lingspec.reference.weights import Weights

__all__ = ["Tap", "mlp", "moe_block", "silent"]

Tap = Callable[[str, Tensor], "Tensor | None"]


def silent(_name: str, _tensor: Tensor) -> None:
    """The tap of a run that nobody listens to."""


def moe_block(
    x: Tensor, weights: Weights, config: LingConfig, *, layer: int, positions: Any = None,  # noqa: ARG001 - composites have one signature
    cache: None = None, tap: Tap = silent,  # noqa: ARG001 - nothing is kept
) -> Tensor:  # fmt: skip
    """Route every token to its experts, add up what they return, and what the shared one does.

        y = moe_experts(x) + shared(x)

    The shared expert's result is neither scaled nor routed. Only experts that some token is routed
    to are read from ``weights``.

    Args:
        x:         (B, T, D) after the layer's norm.
        weights:   Tensors ``model.layers.{layer}.mlp.*``, dtype of ``x``; the router's bias
                   float32.
        config:    The model's.
        layer:     From 0.
        positions: Not looked at; tokens are independent.
        cache:     None; nothing is kept.
        tap:       Sees and may replace ``router_logits`` (B, T, E), ``topk_idx`` (B, T, k) and
                   ``topk_weight`` (B T, k). Replaced experts get the weights that their own scores
                   give.

    Returns:
        (B, T, D), the dtype of ``x``.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:304-442.
    """
    name, tokens = f"model.layers.{layer}.mlp", x.reshape(-1, x.shape[-1])
    logits = moe_logits(tokens, weights[f"{name}.gate.weight"])
    logits = tapped(tap, f"layers.{layer}.router_logits", logits.view(*x.shape[:2], -1)).flatten(
        0, 1
    )
    factor = config.routed_scaling_factor
    bias = weights[f"{name}.gate.expert_bias"].to(logits.dtype)
    chosen, experts = moe_route(
        logits, bias, groups=config.n_group, top_groups=config.topk_group,
        top_k=config.num_experts_per_tok, scaling=factor,
    )  # fmt: skip
    forced = tap(f"layers.{layer}.topk_idx", experts.view(*x.shape[:2], -1))
    if forced is not None:
        experts = forced.flatten(0, 1)
        chosen = weighed(torch.sigmoid(logits), experts, factor)
    chosen = tapped(tap, f"layers.{layer}.topk_weight", chosen)

    results = tokens.new_zeros(*experts.shape, tokens.shape[1])  # (B T, k, D)
    for e in sorted(set(experts.flatten().tolist())):
        here = experts == e
        gate_up, down = _of(weights, f"{name}.experts.{e}")
        results[here] = expert(tokens[here.nonzero()[:, 0]], gate_up, down)
    y = combined(results, chosen).view_as(x)
    return y + mlp(x, weights, f"{name}.shared_experts") if config.num_shared_experts else y


def mlp(x: Tensor, weights: Weights, name: str) -> Tensor:
    """A dense MLP, or a shared expert: (B, T, D) to the same."""
    gate_up, down = _of(weights, name)
    return expert(x.reshape(-1, x.shape[-1]), gate_up, down).view_as(x)


def tapped(tap: Tap, name: str, x: Tensor) -> Tensor:
    """``x``, or what the tap puts in its place."""
    other = tap(name, x)
    return x if other is None else other


def _of(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    """gate_up (2I, D) and down (D, I)."""
    gate, up = weights[f"{name}.gate_proj.weight"], weights[f"{name}.up_proj.weight"]
    return torch.cat([gate, up]), weights[f"{name}.down_proj.weight"]
