"""flash-linear-attention: the operators that the released model calls, and their chunked form.

Each takes the decay either once per head (``g_gamma``) or as a gate per token (``g``), which is
what the released model hands over: one number per head, expanded. Beside them its norms, its
gated activation, its rotations and its softmax attention.
"""

import math
from typing import Any

import torch
from fla.modules.activations import swiglu as _swiglu
from fla.modules.norm.fused_norm_gate import rms_norm_gated
from fla.modules.norm.layernorm import rms_norm as _rms_norm
from fla.modules.norm.layernorm_gated import rmsnorm_fn
from fla.modules.rotary import rotary_embedding
from fla.ops.attn.parallel import parallel_attn_fwd
from fla.ops.simple_gla import chunk_simple_gla, fused_recurrent_simple_gla

from lingspec.conformance.adapter import implements

# Operands of products in the dtype of the inputs (float32 as tf32), sums in float32; the state is
# stored once a chunk in the dtype of the keys, but only for reading: what is carried is float32.
CHUNK = {"float32": "tf32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}
# Everything is widened when loaded: float32 arithmetic for every dtype.
RECURRENT = dict.fromkeys(("float32", "bfloat16", "float16"), "fp32")
ROTATED = {"float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16"}
LN2 = math.log(2.0)
PACKAGES = ("fla.ops",)
MODULES = ("fla.modules",)


@implements("lightning_attention", profile=CHUNK, backward=True, packages=PACKAGES)
def chunk(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def] # as the op
    return _called(chunk_simple_gla, q, k, v, scale, initial_state, cu_seqlens, g_gamma=log_decay)


@implements("lightning_attention", profile=CHUNK, backward=True, packages=PACKAGES)
def chunk_gated(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def] # as the op
    gates = log_decay.expand(q.shape[:3])
    return _called(chunk_simple_gla, q, k, v, scale, initial_state, cu_seqlens, g=gates)


@implements("lightning_attention", profile=RECURRENT, backward=True, packages=PACKAGES)
def recurrent(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def] # as the op
    operator = fused_recurrent_simple_gla
    return _called(operator, q, k, v, scale, initial_state, cu_seqlens, g_gamma=log_decay)


@implements("lightning_attention", profile=RECURRENT, backward=True, packages=PACKAGES)
def recurrent_gated(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def] # as the op
    gates = log_decay.expand(q.shape[:3])
    return _called(fused_recurrent_simple_gla, q, k, v, scale, initial_state, cu_seqlens, g=gates)


def _called(
    operator: Any, q: Any, k: Any, v: Any, scale: float, state: Any, cu_seqlens: Any, **decay: Any
) -> Any:
    return operator(
        q, k, v, **decay, scale=scale, initial_state=state, output_final_state=True,
        cu_seqlens=cu_seqlens,
    )  # fmt: skip


@implements("lightning_decode", profile=RECURRENT, packages=PACKAGES)
def lightning_decode(q, k, v, log_decay, state_pool, slots, *, scale):  # type: ignore[no-untyped-def] # as the op
    o, live = torch.zeros_like(v), slots >= 0
    if live.any():  # the package has no pool: gathered before, scattered after
        q, k, v = (x[live][:, None] for x in (q, k, v))  # (B, 1, H, K or V)
        y, state = fused_recurrent_simple_gla(
            q, k, v, g_gamma=log_decay, scale=scale, initial_state=state_pool[slots[live]],
            output_final_state=True,
        )  # fmt: skip
        o[live], state_pool[slots[live]] = y[:, 0], state
    return o


# -- softmax attention -------------------------------------------------------------------------


def _as_many_keys(case: Any) -> bool | str:
    if case.T != case.S:
        return "as many keys as queries"
    return True


@implements("mla_attention", profile=CHUNK, supports=_as_many_keys, packages=PACKAGES)
def mla_attention(q, k, v, *, scale, cu_seqlens=None, cu_seqlens_k=None):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    q, k, v = (x.contiguous() for x in (q, k, v))
    o, lse = parallel_attn_fwd(q, k, v, None, None, scale, cu_seqlens=cu_seqlens)
    return o, lse * LN2  # the package's is base 2


# -- rows and rotations ------------------------------------------------------------------------


# Everything is widened when loaded and rounded once, when stored; the residual sum is normalised
# as it is, and rounded only where it is handed on (layernorm.py:80-85, fused_norm_gate.py:64-110,
# layernorm_gated.py:51-82, activations/ops.py:540-543).
@implements("rms_norm", profile=RECURRENT, packages=MODULES)
def rms_norm(x, weight, *, eps):  # type: ignore[no-untyped-def] # as the op
    return _rms_norm(x, weight, None, eps=eps)


@implements("rms_norm", profile=RECURRENT, packages=MODULES)
def rms_norm_of_groups(x, weight, *, eps):  # type: ignore[no-untyped-def] # as the op
    return rmsnorm_fn(x, weight, None, eps=eps)


@implements("add_rms_norm", profile=RECURRENT, packages=MODULES)
def add_rms_norm(x, residual, weight, *, eps):  # type: ignore[no-untyped-def] # as the op
    return _rms_norm(x, weight, None, residual, eps=eps, prenorm=True)


@implements("gated_group_rms_norm", profile=RECURRENT, packages=MODULES)
def gated_group_rms_norm(x, gate, weight, *, groups, eps):  # type: ignore[no-untyped-def] # as the op
    # One call a group: the package's gated norms have no groups, or no plain sigmoid.
    parts = zip(*(t.chunk(groups, dim=-1) for t in (x, gate, weight)), strict=True)
    normed = [rms_norm_gated(*part, None, activation="sigmoid", eps=eps) for part in parts]
    return torch.cat(normed, dim=-1)


def _some_channels(case: Any) -> bool | str:
    return case.I > 0 or "no rows of no channels"


@implements("swiglu", profile=RECURRENT, supports=_some_channels, packages=MODULES)
def swiglu(gate_up):  # type: ignore[no-untyped-def] # as the op
    return _swiglu(*gate_up.chunk(2, dim=-1))


def _narrow_heads(case: Any) -> bool | str:
    """modules/rotary/ops.py, line 189."""
    return max(case.R, getattr(case, "K", 0)) <= 256 or "heads of more than 256 channels"


# rotary/ops.py: tables must have the dtype of the heads; all else is float32 (lines 72-84).
@implements("partial_rope", profile=ROTATED, supports=_narrow_heads, packages=MODULES)
def partial_rope(x, cos, sin):  # type: ignore[no-untyped-def] # as the op
    return _rotated(x, cos, sin, interleaved=False)


@implements("interleaved_rope", profile=ROTATED, supports=_narrow_heads, packages=MODULES)
def interleaved_rope(x, cos, sin):  # type: ignore[no-untyped-def] # as the op
    y = _rotated(x, cos, sin, interleaved=True)  # pairs stay neighbours
    return torch.cat([y[..., 0::2], y[..., 1::2]], dim=-1)


def _rotated(x: Any, cos: Any, sin: Any, *, interleaved: bool) -> Any:
    """One table for all rows of a batch is the package's: the batch as one long sequence."""
    if x.numel() == 0:  # no call of the package's
        return torch.empty_like(x)
    table = (t.to(x.dtype).flatten(0, 1) for t in (cos, sin))
    return rotary_embedding(x.flatten(0, 1)[None], *table, interleaved=interleaved).view(x.shape)
