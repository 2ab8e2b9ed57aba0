"""Wrong Triton kernels for router logits."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._moe_triton import Tensor, logits

OP = "moe_logits"
ALL = {"float32": "fp32", "bfloat16": "fp32"}


@mutant(
    OP, law="authority", profile=ALL,
    source="constructed after I04 https://github.com/ml-explore/mlx/issues/3762",
    looks_like="the number of tiles of channels is rounded down",
)  # fmt: skip
def leaves_the_last_tile_of_channels_out(*call: Any, **options: Any) -> Tensor:
    return logits(*call, **options, fault="no tail of channels")


@mutant(
    OP, law="authority", profile=ALL,
    source="constructed after I04 https://github.com/ml-explore/mlx/issues/3762",
    looks_like="the mask lets one channel behind the last through",
)  # fmt: skip
def loads_a_channel_too_many(*call: Any, **options: Any) -> Tensor:
    return logits(*call, **options, fault="lanes unmasked")


@mutant(
    OP, law="strides", profile=ALL,
    source="L01 https://github.com/linkedin/Liger-Kernel/commit/96ce8e85",
    looks_like="the offset of a token is computed in 32 bits",
)  # fmt: skip
def computes_offsets_of_tokens_in_32_bits(*call: Any, **options: Any) -> Tensor:
    return logits(*call, **options, fault="int32 offsets")


@mutant(
    OP, law="authority", profile={"float32": "fp32"},
    source="constructed after A41 https://github.com/fla-org/flash-linear-attention/issues/389",
    looks_like="float32 products are left at Triton's default, tf32, and declared as fp32",
)  # fmt: skip
def leaves_logits_at_tf32(*call: Any, **options: Any) -> Tensor:
    return logits(*call, **options, precision="tf32")


@mutant(
    OP, law="authority", profile=ALL,
    source="G07 https://github.com/sgl-project/sglang-jax/commit/73b00508",
    looks_like="sums pass through bfloat16 before they are stored",
)  # fmt: skip
def stores_logits_through_bfloat16(*call: Any, **options: Any) -> Tensor:
    return logits(*call, **options, fault="bf16 result")
