"""transformers: DeepSeek-V3, of which Ling's MLA and experts are made, GLM-4 and MiniMax.

The package's own `bailing_hybrid` is Ling 3.0, another model.
"""

from lingspec.conformance.adapters.transformers.experts import (
    moe_experts,
    moe_experts_batched,
    moe_experts_grouped,
    moe_logits,
    moe_route,
)
from lingspec.conformance.adapters.transformers.fp8 import fp8_dequantize, fp8_quantize
from lingspec.conformance.adapters.transformers.layers import mla_layer, moe_block
from lingspec.conformance.adapters.transformers.lightning import lightning_attention
from lingspec.conformance.adapters.transformers.rows import (
    interleaved_rope,
    partial_rope,
    qk_norm_rope,
    rms_norm,
    rope_table,
    swiglu,
)

__all__ = [
    "fp8_dequantize", "fp8_quantize", "interleaved_rope", "lightning_attention", "mla_layer",
    "moe_block", "moe_experts", "moe_experts_batched", "moe_experts_grouped", "moe_logits",
    "moe_route", "partial_rope", "qk_norm_rope", "rms_norm", "rope_table", "swiglu",
]  # fmt: skip
