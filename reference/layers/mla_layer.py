"""The attention of an MLA layer, between its norm and the residual addition.

Letters: B batch, T tokens, S tokens seen, D hidden size, H heads, L latent rank, R rotary dims,
N nope dims, V value dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.cache import LatentCache
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.checks import check_cache, check_input, check_positions
from lingspec.reference.layers.lightning_layer import tables
from lingspec.reference.ops.interleaved_rope import interleaved_rope
from lingspec.reference.ops.mla_attention import mla_attention
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.precision import work
from lingspec.reference.rounding import at
from lingspec.reference.weights import Weights, linear

__all__ = ["expanded", "mla_layer"]

LATENT_EPS = 1e-6  # the norms of both latents have the class default, not the model's eps


def mla_layer(
    x: Tensor, weights: Weights, config: LingConfig, *, layer: int, positions: Tensor,
    cache: LatentCache | None = None, valid: Tensor | None = None, absorbed: bool = False,
) -> Tensor:  # fmt: skip
    """Compress keys and values to a latent, expand it for every head, attend, project.

        q = norm(x W_qa) W_qb                        per head: N dims, then R rotated ones
        latent | rope = x W_kva,  row = norm(latent) | rotate(rope)         what the cache keeps
        k_h = norm(latent) W_k,h | rotate(rope),  v_h = norm(latent) W_v,h
        y = mla_attention(q, k, v) W_o

    There is no norm of queries and keys here. The rotated key is taken before the norm of the
    latent, and is shared by all heads.

    Args:
        x:         (B, T, D) after the layer's norm.
        weights:   Tensors ``model.layers.{layer}.attention.*``, dtype of ``x``.
        config:    The model's; without ``q_lora_rank`` q is x W_q.
        layer:     From 0.
        positions: (B, T) integers.
        cache:     Rows of earlier tokens; those of these tokens are appended. None: there are
                   none, and nothing is kept.
        valid:     (B, S) bool, False at padding, which must lie on the left: it is not looked at,
                   and what comes out at it is 0 times W_o.
        absorbed:  Multiply queries by W_k and results by W_v in place of keys and values: the same,
                   in the latent space. It rounds elsewhere.

    Returns:
        (B, T, D), the dtype of ``x``.

    Raises:
        ContractError: a shape, a dtype or a device that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:580-702.
    """
    check_input(x, config)
    check_positions(positions, x)
    check_cache(cache, x, config, layer)
    name = f"model.layers.{layer}.attention"
    q_nope, q_rope = _queries(x, weights, config, name, positions)
    rows = _rows(x, weights, config, name, positions)
    if cache is not None:
        rows = cache.append(rows)
    of = weights[f"{name}.kv_b_proj.weight"].view(
        config.num_attention_heads, -1, config.kv_lora_rank
    )
    if absorbed:
        o = _absorbed(q_nope, q_rope, rows, of, config, valid)
    else:
        k, v = expanded(rows, of, config)
        o = _attend(torch.cat([q_nope, q_rope], dim=-1), k, v, config.mla_scale, valid)
    return linear(o.flatten(2), weights, f"{name}.dense")


def expanded(rows: Tensor, kv_b: Tensor, config: LingConfig) -> tuple[Tensor, Tensor]:
    """Keys (B, S, H, N + R) and values (B, S, H, V) of cached rows; kv_b is (H, N + V, L)."""
    latent, rope = torch.split(rows, [config.kv_lora_rank, config.qk_rope_head_dim], dim=-1)
    kv = at("linear", _product("bsl,hnl->bshn", latent, kv_b).to(rows.dtype))
    k_nope, v = torch.split(kv, [config.qk_nope_head_dim, config.v_head_dim], dim=-1)
    shared = rope[:, :, None].expand(*k_nope.shape[:3], -1)
    return torch.cat([k_nope, shared], dim=-1), v


def _queries(
    x: Tensor, weights: Weights, config: LingConfig, name: str, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """(B, T, H, N) and, rotated, (B, T, H, R)."""
    if config.q_lora_rank is None:
        q = linear(x, weights, f"{name}.q_proj")
    else:
        latent = linear(x, weights, f"{name}.q_a_proj")
        latent = rms_norm(latent, weights[f"{name}.q_a_layernorm.weight"], eps=LATENT_EPS)
        q = linear(latent, weights, f"{name}.q_b_proj")
    N, R = config.qk_nope_head_dim, config.qk_rope_head_dim
    q = q.view(*x.shape[:2], config.num_attention_heads, N + R)
    nope, rope = torch.split(q, [N, R], dim=-1)
    return nope, interleaved_rope(rope, *tables(x, positions, config))


def _rows(x: Tensor, weights: Weights, config: LingConfig, name: str, positions: Tensor) -> Tensor:
    both = linear(x, weights, f"{name}.kv_a_proj_with_mqa")
    latent, rope = torch.split(both, [config.kv_lora_rank, config.qk_rope_head_dim], dim=-1)
    latent = rms_norm(latent, weights[f"{name}.kv_a_layernorm.weight"], eps=LATENT_EPS)
    rope = interleaved_rope(rope[:, :, None], *tables(x, positions, config))
    return torch.cat([latent, rope[:, :, 0]], dim=-1)


def _absorbed(
    q_nope: Tensor, q_rope: Tensor, rows: Tensor, kv_b: Tensor, config: LingConfig,
    valid: Tensor | None,
) -> Tensor:  # fmt: skip
    of_k, of_v = torch.split(kv_b, [config.qk_nope_head_dim, config.v_head_dim], dim=1)
    q_latent = _product("bthn,hnl->bthl", q_nope, of_k).to(q_nope.dtype)
    k = rows[:, :, None].expand(-1, -1, q_nope.shape[2], -1)  # (B, S, H, L + R)
    q = torch.cat([at("q", q_latent), q_rope], dim=-1)
    o = _attend(q, k, k[..., : config.kv_lora_rank], config.mla_scale, valid)  # (B, T, H, L)
    return at("linear", _product("bthl,hvl->bthv", o, of_v).to(o.dtype))


def _product(equation: str, a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum(equation, at("operand", work(a)), at("operand", work(b)))


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, valid: Tensor | None) -> Tensor:
    """`mla_attention`, over the tokens that are not padding."""
    if valid is None or bool(valid.all()):
        return mla_attention(q, k, v, scale=scale)[0]
    T = q.shape[1]
    now = valid[:, -T:]  # of the queries: the last T tokens
    ends, ends_k = (
        torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(dim=1).cumsum(0)])
        for mask in (now, valid)
    )
    o = q.new_zeros(*q.shape[:3], v.shape[3])
    o[now] = mla_attention(
        q[now][None], k[valid][None], v[valid][None], scale=scale, cu_seqlens=ends,
        cu_seqlens_k=ends_k,
    )[0][0]  # fmt: skip
    return o
