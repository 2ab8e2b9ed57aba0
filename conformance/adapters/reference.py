"""The reference itself as a candidate: what the suite must accept first of all."""

from lingspec.conformance.adapter import implements
from lingspec.reference import fp8_dequantize as _fp8_dequantize
from lingspec.reference import fp8_quantize as _fp8_quantize
from lingspec.reference import lightning_attention as _attention
from lingspec.reference import lightning_decode as _decode
from lingspec.reference import lightning_log_decay as _log_decay
from lingspec.reference import moe_experts as _moe_experts
from lingspec.reference import moe_logits as _moe_logits
from lingspec.reference import moe_route as _moe_route
from lingspec.reference import rms_norm as _rms_norm

PROFILE = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


# It rounds to the dtype of the activations where the released model does.
SPEC = {
    "float64": "fp64", "float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16",
}  # fmt: skip


@implements("rms_norm", profile=SPEC)
def rms_norm(x, weight, *, eps):  # type: ignore[no-untyped-def]
    return _rms_norm(x, weight, eps=eps)


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
