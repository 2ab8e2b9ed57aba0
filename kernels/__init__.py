"""How to do it fast: Triton kernels, one file an op."""

from lingspec.kernels import checked
from lingspec.kernels.lightning_attention import lightning_attention
from lingspec.kernels.lightning_decode import lightning_decode
from lingspec.kernels.lightning_log_decay import lightning_log_decay

__all__ = ["checked", "lightning_attention", "lightning_decode", "lightning_log_decay"]
