"""mlx-lm's Ling 2.5, `mlx_lm.models.bailing_hybrid`: its operations, and its layers."""

from lingspec.conformance.adapters.mlx.lightning import (
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
)
from lingspec.conformance.adapters.mlx.rows import (
    gated_group_rms_norm,
    rms_norm,
    rope_table,
    swiglu,
)

__all__ = [
    "gated_group_rms_norm", "lightning_attention", "lightning_decode", "lightning_log_decay",
    "rms_norm", "rope_table", "swiglu",
]  # fmt: skip
