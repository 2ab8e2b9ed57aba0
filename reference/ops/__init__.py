"""One op a file, each with a function of the file's name."""

from lingspec.reference.ops.lightning_attention import lightning_attention
from lingspec.reference.ops.lightning_decode import lightning_decode
from lingspec.reference.ops.lightning_log_decay import lightning_log_decay

__all__ = ["lightning_attention", "lightning_decode", "lightning_log_decay"]
