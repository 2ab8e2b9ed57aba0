"""Norms, the gated activation and the rotary table of mlx-lm."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import torch
from mlx_lm.models.activations import swiglu as _swiglu
from mlx_lm.models.bailing_hybrid import LinearAttention
from mlx_lm.models.rope_utils import initialize_rope

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.mlx._arrays import mlx, torched
from lingspec.conformance.adapters.mlx._model import arguments

PACKAGES = ("mlx_lm",)
# mlx/fast.cpp, rms_norm: float32, a cast, then the product with the weight in the dtype of x.
SPEC = {"float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16"}
# And mlx/backend/cpu/unary_ops.h, Sigmoid: 1 / (1 + exp |x|), and 1 minus that for x > 0, all in
# the dtype of x.
GATED = {name: f"{p}+sigmoid={p[-4:]}" if "=" in p else p for name, p in SPEC.items()}


@implements("rms_norm", profile=SPEC, packages=PACKAGES)
def rms_norm(x, weight, *, eps):  # type: ignore[no-untyped-def] # as the op
    if not x.numel():  # no call of the package's
        return torch.empty_like(x)
    norm = nn.RMSNorm(x.shape[-1], eps=eps)
    norm.weight = mlx(weight)
    return torched(norm(mlx(x)))


@implements("gated_group_rms_norm", profile=GATED, packages=PACKAGES)
def gated_group_rms_norm(x, gate, weight, *, groups, eps):  # type: ignore[no-untyped-def] # as the op
    """The end of its linear attention, which is made to hand on ``x``.

    Every row is one token of D heads of one dim, whose q and k are 1 and whose memory is empty.
    """
    if not x.numel():
        return torch.empty_like(x)
    D = x.shape[-1]
    given = arguments(
        num_attention_heads=D, head_dim=2, group_norm_size=groups, rms_norm_eps=eps,
        use_qk_norm=False,
    )  # fmt: skip
    layer = LinearAttention(given, layer_idx=0)
    layer.head_dim, layer.scale = 1, 1.0
    values = mlx(x).reshape(-1, 1, D)
    ones = mx.ones_like(values)
    layer.query_key_value = lambda _: mx.concatenate([ones, ones, values], axis=-1)
    layer.rope = lambda y, **_: y
    layer.g_norm.weight = mlx(weight)
    layer.g_proj = lambda _: mlx(gate).reshape(values.shape)
    layer.dense = lambda y: y
    return torched(layer(values)).reshape(x.shape)


@implements("swiglu", profile=GATED, packages=PACKAGES)
def swiglu(gate_up):  # type: ignore[no-untyped-def] # as the op
    gate, up = gate_up.chunk(2, dim=-1)
    return torched(_swiglu(mlx(gate), mlx(up))) if gate.numel() else torch.empty_like(gate)


def _read(case: Any) -> bool | str:
    """Of YaRN's mapping, `initialize_rope` hands on all but two keys."""
    told = {"factored": "attention_factor", "ends": "truncate"}
    return case.scaling not in told or f"does not read {told[case.scaling]}"


@implements("rope_table", profile={"float32": "fp32"}, supports=_read, packages=PACKAGES)
def rope_table(positions, *, rotary_dim, theta, scaling=None):  # type: ignore[no-untyped-def] # as the op
    """What it makes of the pair (1, 0) at every position: its rotation takes no table."""
    if not positions.numel():
        empty = positions.new_empty(*positions.shape, rotary_dim // 2, dtype=torch.float32)
        return empty, empty.clone()
    rope: Any = initialize_rope(rotary_dim, theta, False, scaling_config=scaling)
    half = mx.ones((positions.numel(), 1, 1, rotary_dim // 2))
    pairs = mx.concatenate([half, mx.zeros_like(half)], axis=-1)
    offset = mlx(positions.flatten().to(torch.int32))
    made = torched(rope(pairs, offset=offset)).reshape(*positions.shape, rotary_dim)
    cos, sin = made.chunk(2, dim=-1)
    return cos.contiguous(), sin.contiguous()
