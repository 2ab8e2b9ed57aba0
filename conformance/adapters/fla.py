"""flash-linear-attention: the operators that the released model calls, and their chunked form.

Each takes the decay either once per head (``g_gamma``) or as a gate per token (``g``), which is
what the released model hands over: one number per head, expanded.
"""

from typing import Any

from fla.ops.simple_gla import chunk_simple_gla, fused_recurrent_simple_gla

from lingspec.conformance.adapter import implements

# Operands of products in the dtype of the inputs (float32 as tf32), sums in float32; the state is
# stored once a chunk in the dtype of the keys, but only for reading: what is carried is float32.
CHUNK = {"float32": "tf32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}
# Everything is widened when loaded: float32 arithmetic for every dtype.
RECURRENT = dict.fromkeys(("float32", "bfloat16", "float16"), "fp32")
PACKAGES = ("fla.ops",)


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
