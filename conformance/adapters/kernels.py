"""This project's own Triton kernels."""

from lingspec import kernels
from lingspec.conformance.adapter import implements

PROFILE = {"float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}


@implements("lightning_attention", profile=PROFILE, backward=True, packages=("lingspec.kernels",))
def lightning_attention(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def]
    return kernels.lightning_attention(
        q, k, v, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens
    )


@implements(
    "lightning_decode",
    profile={"float32": "fp32", "bfloat16": "fp32", "float16": "fp32"},
    packages=("lingspec.kernels",),
)
def lightning_decode(q, k, v, log_decay, state_pool, slots, *, scale):  # type: ignore[no-untyped-def]
    return kernels.lightning_decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@implements("lightning_log_decay", packages=("lingspec.kernels",))
def lightning_log_decay(heads, layer, layers, *, origin=1):  # type: ignore[no-untyped-def]
    return kernels.lightning_log_decay(heads, layer, layers, origin=origin)
