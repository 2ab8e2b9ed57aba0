"""The attention of a Lightning layer, between its norm and the residual addition.

Letters: B batch, T tokens, D hidden size, H heads, K head dim, G groups of the norm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.cache import LightningCache
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.checks import check_cache, check_input, check_positions
from lingspec.reference.ops.gated_group_rms_norm import gated_group_rms_norm
from lingspec.reference.ops.lightning_attention import lightning_attention
from lingspec.reference.ops.lightning_log_decay import lightning_log_decay
from lingspec.reference.ops.partial_rope import partial_rope
from lingspec.reference.ops.qk_norm_rope import qk_norm_rope
from lingspec.reference.ops.rope_table import rope_table
from lingspec.reference.precision import work_dtype
from lingspec.reference.weights import Weights, linear

__all__ = ["lightning_layer"]


def lightning_layer(
    x: Tensor, weights: Weights, config: LingConfig, *, layer: int, positions: Tensor,
    cache: LightningCache | None = None, valid: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Project, normalise and rotate, attend, normalise and gate, project.

        q, k, v = split(x W_qkv)           rows of W_qkv: all heads of q, then of k, then of v
        q, k = qk_norm_rope(q, k)          v is neither normalised nor rotated
        o = lightning_attention(q, k, v),  scale K^-0.5
        y = gated_group_rms_norm(o, gate = x W_g) W_o

    Args:
        x:         (B, T, D) after the layer's norm.
        weights:   Tensors ``model.layers.{layer}.attention.*``, dtype of ``x``.
        config:    The model's.
        layer:     From 0; its decay depends on it.
        positions: (B, T) integers.
        cache:     The memory of earlier tokens; it is replaced by that after the last one. None:
                   there are none, and nothing is kept.
        valid:     (B, T) bool, False at padding, which must lie on the left: v is 0 there, so that
                   it leaves nothing in the memory. The released code forgets this where it has no
                   cache.

    Returns:
        (B, T, D), the dtype of ``x``.

    Raises:
        ContractError: a shape, a dtype or a device that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:828-882.
    """
    check_input(x, config)
    check_positions(positions, x)
    check_cache(cache, x, config, layer)
    B, T, _ = x.shape
    H, K, eps = config.num_attention_heads, config.head_dim, config.rms_norm_eps
    name = f"model.layers.{layer}.attention"

    qkv = linear(x, weights, f"{name}.query_key_value").view(B, T, 3, H, K)
    q, k, v = qkv.unbind(dim=2)  # (B, T, H, K)
    cos, sin = tables(x, positions, config)
    if config.use_qk_norm:
        of_q, of_k = (weights[f"{name}.{of}_layernorm.weight"] for of in ("query", "key"))
        q, k = qk_norm_rope(q, k, of_q, of_k, cos, sin, eps=eps)
    else:
        q, k = partial_rope(q, cos, sin), partial_rope(k, cos, sin)
    if valid is not None:
        v = v * valid[:, :, None, None]

    log_decay = lightning_log_decay(
        H, layer, config.num_hidden_layers, origin=config.decay_layer_origin
    )
    o, state = lightning_attention(
        q, k, v, log_decay.to(work_dtype(x)), scale=K**-0.5,
        initial_state=None if cache is None else cache.state,
    )  # fmt: skip
    if cache is not None:
        cache.state = state

    gate = linear(x, weights, f"{name}.g_proj")
    normed = gated_group_rms_norm(
        o.reshape(B, T, H * K), gate, weights[f"{name}.g_norm.weight"],
        groups=config.group_norm_size, eps=eps,
    )  # fmt: skip
    return linear(normed, weights, f"{name}.dense")


def tables(x: Tensor, positions: Tensor, config: LingConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, T, R/2) of both attentions, in the dtype that ``x`` is computed in."""
    if x.dtype == torch.float64:
        positions = positions.double()
    return rope_table(
        positions, rotary_dim=config.rotary_dim, theta=config.rope_theta,
        scaling=config.rope_scaling,
    )  # fmt: skip
