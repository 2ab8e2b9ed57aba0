"""The ops: one a file, under its own name."""

from lingspec.reference.ops.add_rms_norm import add_rms_norm
from lingspec.reference.ops.fp8_dequantize import fp8_dequantize
from lingspec.reference.ops.fp8_quantize import fp8_quantize
from lingspec.reference.ops.gated_group_rms_norm import gated_group_rms_norm
from lingspec.reference.ops.interleaved_rope import interleaved_rope
from lingspec.reference.ops.latent_cache_write import latent_cache_write
from lingspec.reference.ops.lightning_attention import lightning_attention
from lingspec.reference.ops.lightning_decode import lightning_decode
from lingspec.reference.ops.lightning_log_decay import lightning_log_decay
from lingspec.reference.ops.merge_attention import merge_attention
from lingspec.reference.ops.mla_attention import mla_attention
from lingspec.reference.ops.mla_decode import mla_decode
from lingspec.reference.ops.moe_experts import moe_experts
from lingspec.reference.ops.moe_logits import moe_logits
from lingspec.reference.ops.moe_route import moe_route
from lingspec.reference.ops.partial_rope import partial_rope
from lingspec.reference.ops.qk_norm_rope import qk_norm_rope
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.ops.rope_table import rope_table
from lingspec.reference.ops.swiglu import swiglu

__all__ = [
    "add_rms_norm", "fp8_dequantize", "fp8_quantize", "gated_group_rms_norm", "interleaved_rope",
    "latent_cache_write", "lightning_attention", "lightning_decode", "lightning_log_decay",
    "merge_attention", "mla_attention", "mla_decode", "moe_experts", "moe_logits", "moe_route",
    "partial_rope", "qk_norm_rope", "rms_norm", "rope_table", "swiglu",
]  # fmt: skip
