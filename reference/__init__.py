"""What is right: slow, readable, plain PyTorch."""

from lingspec.reference.checks import ContractError
from lingspec.reference.ops import lightning_attention, lightning_decode, lightning_log_decay
from lingspec.reference.rounding import at, rounding

__all__ = [
    "ContractError",
    "at",
    "lightning_attention",
    "lightning_decode",
    "lightning_log_decay",
    "rounding",
]
