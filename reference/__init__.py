"""What is right: slow, readable, plain PyTorch."""

from lingspec.reference.call import Call
from lingspec.reference.checkpoint import open_checkpoint
from lingspec.reference.checks import ContractError
from lingspec.reference.config import ConfigError, LingConfig
from lingspec.reference.layout import CheckpointError
from lingspec.reference.model import LingModel
from lingspec.reference.ops import (
    add_rms_norm,
    fp8_dequantize,
    fp8_quantize,
    gated_group_rms_norm,
    interleaved_rope,
    latent_cache_write,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    merge_attention,
    mla_attention,
    mla_decode,
    moe_experts,
    moe_logits,
    moe_route,
    partial_rope,
    qk_norm_rope,
    rms_norm,
    rope_table,
    swiglu,
)
from lingspec.reference.rounding import at, rounding

__all__ = [
    "Call",
    "CheckpointError",
    "ConfigError",
    "ContractError",
    "LingConfig",
    "LingModel",
    "add_rms_norm",
    "at",
    "fp8_dequantize",
    "fp8_quantize",
    "gated_group_rms_norm",
    "interleaved_rope",
    "latent_cache_write",
    "lightning_attention",
    "lightning_decode",
    "lightning_log_decay",
    "merge_attention",
    "mla_attention",
    "mla_decode",
    "moe_experts",
    "moe_logits",
    "moe_route",
    "open_checkpoint",
    "partial_rope",
    "qk_norm_rope",
    "rms_norm",
    "rope_table",
    "rounding",
    "swiglu",
]
