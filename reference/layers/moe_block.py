"""The mixture of experts of a layer, between its norm and the residual addition.

Letters: B batch, T tokens, D hidden size, E experts, I hidden channels, k chosen experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.checks import check_input, check_positions
from lingspec.reference.ops.moe_experts import combined, expert
from lingspec.reference.ops.moe_logits import moe_logits
from lingspec.reference.ops.moe_route import moe_route, weighed
from lingspec.reference.precision import FLOATS
from lingspec.reference.rounding import at
from lingspec.reference.weights import Weights

__all__ = ["Tap", "mlp", "moe_block", "moe_blocks", "silent", "tapped"]

Tap = Callable[[str, Tensor], "Tensor | None"]


def silent(_name: str, _tensor: Tensor) -> None:
    """The tap of a run that nobody listens to."""


def moe_block(
    x: Tensor, weights: Weights, config: LingConfig, *, layer: int, positions: Any = None,
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
        positions: (B, T) integers, or None: tokens are independent.
        cache:     None; nothing is kept.
        tap:       Sees and may replace ``router_logits`` (B, T, E), ``topk_idx`` (B, T, k) and
                   ``topk_weight`` (B T, k). Replaced experts get the weights that their own scores
                   give.

    Returns:
        (B, T, D), the dtype of ``x``.

    Raises:
        ContractError: a shape, a dtype or a device that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:304-442.
    """
    check_input(x, config)
    if positions is not None:
        check_positions(positions, x)
    return moe_blocks([x], weights, config, layer=layer, taps=[tap])[0]


def moe_blocks(
    xs: Sequence[Tensor], weights: Weights, config: LingConfig, *, layer: int, taps: Sequence[Tap]
) -> list[Tensor]:
    """`moe_block` of several inputs, each with its tap; every expert is read once for all."""
    name = f"model.layers.{layer}.mlp"
    routed = [_routed(x, weights, config, layer, tap) for x, tap in zip(xs, taps, strict=True)]
    tokens = torch.cat([x.flatten(0, 1) for x in xs])  # (N, D): the tokens of all inputs
    experts = torch.cat([chosen for chosen, _ in routed])  # (N, k)
    results = tokens.new_zeros(*experts.shape, tokens.shape[1])
    for e in sorted(set(experts.flatten().tolist())):
        here = experts == e
        results[here] = _mlp(tokens[here.nonzero()[:, 0]], weights, f"{name}.experts.{e}")
    ys = combined(results, torch.cat([share for _, share in routed]))
    each = torch.split(ys, [x.shape[0] * x.shape[1] for x in xs])
    made = [y.view_as(x) for x, y in zip(xs, each, strict=True)]
    if not config.num_shared_experts:
        return made
    shared = [mlp(x, weights, f"{name}.shared_experts") for x in xs]
    return [at("residual", y + also) for y, also in zip(made, shared, strict=True)]


def _routed(
    x: Tensor, weights: Weights, config: LingConfig, layer: int, tap: Tap
) -> tuple[Tensor, Tensor]:
    """The experts of every token and their weights, both (B T, k)."""
    gate, factor = f"model.layers.{layer}.mlp.gate", config.routed_scaling_factor
    logits = moe_logits(x.flatten(0, 1), weights[f"{gate}.weight"])
    E, k = config.num_experts, config.num_experts_per_tok
    logits = logits.view(*x.shape[:2], E)
    logits = tapped(tap, f"layers.{layer}.router_logits", logits).flatten(0, 1)
    chosen, experts = moe_route(
        logits, weights[f"{gate}.expert_bias"].to(logits.dtype), groups=config.n_group,
        top_groups=config.topk_group, top_k=config.num_experts_per_tok, scaling=factor,
    )  # fmt: skip
    name, free = f"layers.{layer}.topk_idx", experts.view(*x.shape[:2], k)
    forced = tapped(tap, name, free)
    if forced is not free:
        _check_experts(name, forced, E)
        experts = forced.flatten(0, 1)
        chosen = weighed(torch.sigmoid(logits), experts, factor)
    return experts, tapped(tap, f"layers.{layer}.topk_weight", chosen)


def mlp(x: Tensor, weights: Weights, name: str) -> Tensor:
    """A dense MLP, or a shared expert: (B, T, D) to the same."""
    return _mlp(x.flatten(0, 1), weights, name).view_as(x)


def _mlp(x: Tensor, weights: Weights, name: str) -> Tensor:
    """An MLP or an expert on tokens (N, D)."""
    gate, up, down = (weights[f"{name}.{kind}_proj.weight"] for kind in ("gate", "up", "down"))
    return expert(x, gate, up, down)


def _check_experts(name: str, experts: Tensor, count: int) -> None:
    """Refuse what routing cannot give."""
    where = f"what the tap returns for {name}"
    ok = bool(((experts >= 0) & (experts < count)).all())
    require(ok, where, "values", "out of range", f"integers from 0 to {count - 1}")
    distinct = bool((experts.sort(dim=-1).values.diff(dim=-1) > 0).all())
    require(distinct, where, "values", "an expert twice", "distinct experts for each token")


def tapped(tap: Tap, name: str, x: Tensor) -> Tensor:
    """``x``, or what the tap puts in its place, in the dtype of ``x``.

    Raises:
        ContractError: the tap returns something else than a tensor of that shape, or integers for
            floats, or floats for integers.
    """
    other = tap(name, x)
    if other is None:
        return x
    where = f"what the tap returns for {name}"
    require(isinstance(other, Tensor), where, "type", type(other).__name__, "Tensor, or None")
    shape, want = tuple(other.shape), tuple(x.shape)
    require(shape == want, where, "shape", shape, f"{want}")
    kind = "a float dtype" if x.is_floating_point() else "int32 or int64"
    ok = other.dtype in (FLOATS if x.is_floating_point() else (torch.int32, torch.int64))
    require(ok, where, "dtype", other.dtype, kind)
    return other.to(x.dtype)
