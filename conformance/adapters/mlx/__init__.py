"""mlx-lm's Ling 2.5, `mlx_lm.models.bailing_hybrid`: its operations, and its layers."""

from lingspec.conformance.adapters.mlx.experts import moe_experts, moe_logits, moe_route
from lingspec.conformance.adapters.mlx.layers import (
    decoder_layer,
    lightning_layer,
    mla_layer,
    moe_block,
)
from lingspec.conformance.adapters.mlx.lightning import (
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
)
from lingspec.conformance.adapters.mlx.model import model
from lingspec.conformance.adapters.mlx.rows import (
    gated_group_rms_norm,
    rms_norm,
    rope_table,
    swiglu,
)

__all__ = [
    "decoder_layer", "gated_group_rms_norm", "lightning_attention", "lightning_decode",
    "lightning_layer", "lightning_log_decay", "mla_layer", "model", "moe_block", "moe_experts",
    "moe_logits", "moe_route", "rms_norm", "rope_table", "swiglu",
]  # fmt: skip
