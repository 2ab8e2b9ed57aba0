"""The reference itself as a candidate: what the suite must accept first of all."""

import torch

from lingspec.conformance.adapter import implements
from lingspec.reference import LingConfig, LingModel, layers
from lingspec.reference import add_rms_norm as _add_rms_norm
from lingspec.reference import fp8_dequantize as _fp8_dequantize
from lingspec.reference import fp8_quantize as _fp8_quantize
from lingspec.reference import gated_group_rms_norm as _gated_group_rms_norm
from lingspec.reference import interleaved_rope as _interleaved_rope
from lingspec.reference import latent_cache_write as _cache_write
from lingspec.reference import lightning_attention as _attention
from lingspec.reference import lightning_decode as _decode
from lingspec.reference import lightning_log_decay as _log_decay
from lingspec.reference import merge_attention as _merge
from lingspec.reference import mla_attention as _mla
from lingspec.reference import mla_decode as _mla_decode
from lingspec.reference import moe_experts as _moe_experts
from lingspec.reference import moe_logits as _moe_logits
from lingspec.reference import moe_route as _moe_route
from lingspec.reference import partial_rope as _partial_rope
from lingspec.reference import qk_norm_rope as _qk_norm_rope
from lingspec.reference import rms_norm as _rms_norm
from lingspec.reference import rope_table as _rope_table
from lingspec.reference import swiglu as _swiglu
from lingspec.reference.cache import LatentCache, LightningCache

PROFILE = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


# It rounds to the dtype of the activations where the released model does.
SPEC = {
    "float64": "fp64", "float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16",
}  # fmt: skip


@implements("rms_norm", profile=SPEC)
def rms_norm(x, weight, *, eps):  # type: ignore[no-untyped-def]
    return _rms_norm(x, weight, eps=eps)


@implements("add_rms_norm", profile=SPEC)
def add_rms_norm(x, residual, weight, *, eps):  # type: ignore[no-untyped-def]
    return _add_rms_norm(x, residual, weight, eps=eps)


@implements("gated_group_rms_norm", profile=SPEC)
def gated_group_rms_norm(x, gate, weight, *, groups, eps):  # type: ignore[no-untyped-def]
    return _gated_group_rms_norm(x, gate, weight, groups=groups, eps=eps)


@implements("rope_table", profile=SPEC)
def rope_table(positions, *, rotary_dim, theta, scaling=None):  # type: ignore[no-untyped-def]
    return _rope_table(positions, rotary_dim=rotary_dim, theta=theta, scaling=scaling)


@implements("partial_rope", profile=SPEC)
def partial_rope(x, cos, sin):  # type: ignore[no-untyped-def]
    return _partial_rope(x, cos, sin)


@implements("interleaved_rope", profile=SPEC)
def interleaved_rope(x, cos, sin):  # type: ignore[no-untyped-def]
    return _interleaved_rope(x, cos, sin)


@implements("qk_norm_rope", profile=SPEC)
def qk_norm_rope(q, k, q_weight, k_weight, cos, sin, *, eps):  # type: ignore[no-untyped-def]
    return _qk_norm_rope(q, k, q_weight, k_weight, cos, sin, eps=eps)


@implements("swiglu", profile=SPEC)
def swiglu(gate_up):  # type: ignore[no-untyped-def]
    return _swiglu(gate_up)


@implements("moe_experts", profile=SPEC)
def moe_experts(x, gate_up, down, experts, weights):  # type: ignore[no-untyped-def]
    return _moe_experts(x, gate_up, down, experts, weights)


@implements("moe_logits", profile=PROFILE)
def moe_logits(x, weight):  # type: ignore[no-untyped-def]
    return _moe_logits(x, weight)


@implements("moe_route", profile=SPEC)
def moe_route(logits, bias, *, groups, top_groups, top_k, scaling):  # type: ignore[no-untyped-def]
    return _moe_route(
        logits, bias, groups=groups, top_groups=top_groups, top_k=top_k, scaling=scaling
    )


@implements("fp8_quantize", profile=PROFILE)
def fp8_quantize(x, *, block=None):  # type: ignore[no-untyped-def]
    return _fp8_quantize(x, block=block)


@implements("fp8_dequantize", profile=PROFILE)
def fp8_dequantize(q, scale, *, block=None, dtype):  # type: ignore[no-untyped-def]
    return _fp8_dequantize(q, scale, block=block, dtype=dtype)


@implements("lightning_attention", profile=PROFILE, backward=True)
def lightning_attention(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def]
    return _attention(
        q, k, v, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens
    )


@implements("lightning_decode", profile=PROFILE)
def lightning_decode(q, k, v, log_decay, state_pool, slots, *, scale):  # type: ignore[no-untyped-def]
    return _decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@implements("lightning_log_decay", profile="fp32")
def lightning_log_decay(heads, layer, layers, *, origin=1):  # type: ignore[no-untyped-def]
    return _log_decay(heads, layer, layers, origin=origin)


@implements("mla_attention", profile=SPEC)
def mla_attention(q, k, v, *, scale, cu_seqlens=None, cu_seqlens_k=None):  # type: ignore[no-untyped-def]
    return _mla(q, k, v, scale=scale, cu_seqlens=cu_seqlens, cu_seqlens_k=cu_seqlens_k)


@implements("mla_decode", profile=SPEC)
def mla_decode(q_latent, q_rope, cache, pages, lengths, *, scale):  # type: ignore[no-untyped-def]
    return _mla_decode(q_latent, q_rope, cache, pages, lengths, scale=scale)


@implements("merge_attention", profile=PROFILE)
def merge_attention(o1, lse1, o2, lse2):  # type: ignore[no-untyped-def]
    return _merge(o1, lse1, o2, lse2)


@implements("latent_cache_write", profile=PROFILE)
def latent_cache_write(latent, rope, cache, slots):  # type: ignore[no-untyped-def]
    return _cache_write(latent, rope, cache, slots)


# -- composites: weights come as they are, the configuration as the keys of a config.json ------

LAYERS = {"float64": "fp64", "float32": "fp32"}


def _composite(function, *inputs, weights, config, layer, positions, cache):  # type: ignore[no-untyped-def]
    held = None
    if cache is not None:
        held = LightningCache(cache.state) if hasattr(cache, "state") else LatentCache(cache.rows)
    made = LingConfig.from_dict(config)
    y = function(*inputs, weights, made, layer=layer, positions=positions, cache=held)
    if isinstance(held, LightningCache):
        cache.state = held.state
    elif held is not None:
        cache.rows = held.rows
    return y


def _declared(op):  # type: ignore[no-untyped-def]
    function = getattr(layers, op)

    @implements(op, profile=LAYERS)
    def layer_(x, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def]
        return _composite(
            function, x, weights=weights, config=config, layer=layer, positions=positions,
            cache=cache,
        )  # fmt: skip

    return layer_


lightning_layer, mla_layer, moe_block, decoder_layer = map(
    _declared, ("lightning_layer", "mla_layer", "moe_block", "decoder_layer")
)


@implements("mtp_layer", profile=LAYERS)
def mtp_layer(x, embedded, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def]
    return _composite(
        layers.mtp_layer, x, embedded, weights=weights, config=config, layer=layer,
        positions=positions, cache=cache,
    )  # fmt: skip


@implements("model", profile=LAYERS)
def model(input_ids, weights, config, *, positions, cache=None):  # type: ignore[no-untyped-def]
    made = LingModel(LingConfig.from_dict(config), weights)
    held = None
    if cache is not None:
        held = made.new_cache(len(input_ids))
        held.layers = [
            LightningCache(c.state) if hasattr(c, "state") else LatentCache(c.rows) for c in cache
        ]
        seen = next(c.rows.shape[1] for c in held.layers if isinstance(c, LatentCache))
        held.valid = torch.ones(len(input_ids), seen, dtype=torch.bool)
        held.due = torch.full_like(held.due, seen)
    logits = made(input_ids, positions, cache=held)
    for given, now in zip(cache or (), held.layers if held else (), strict=True):
        vars(given).update(vars(now))
    return logits
