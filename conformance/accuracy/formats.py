"""Number formats: how far a rounding may move a value, and how to make it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BF16", "FORMATS", "FP16", "FP32", "FP64", "TF32", "Format", "of_dtype"]


@dataclass(frozen=True)
class Format:
    """A rounding: |fl(x) - x| <= u |x| + tiny, with mean -drift x where it is one-sided."""

    name: str
    u: float  # unit roundoff: half an ulp to nearest, a whole one where bits are dropped
    tiny: float  # absolute error near zero
    largest: float
    drift: float = 0.0

    def cast(self, x: Tensor) -> Tensor:
        """``x`` rounded to this format, in the dtype of ``x``."""
        if self.name == "tf32":
            bits = x.to(torch.float32).view(torch.int32)
            return (bits & ~0x1FFF).view(torch.float32).to(x.dtype)
        x = x.clamp(-self.largest, self.largest) if self.name == "fp8" else x
        return x.to(getattr(torch, _DTYPES[self.name])).to(x.dtype)


_DTYPES = {
    "fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16",
    "fp8": "float8_e4m3fn",
}  # fmt: skip

FP64 = Format("fp64", 2.0**-53, 2.0**-1022, 2.0**1023)
# tiny is the smallest normal: subnormals may be flushed.
FP32 = Format("fp32", 2.0**-24, 2.0**-126, 3.4e38)
BF16 = Format("bf16", 2.0**-8, 2.0**-126, 3.38e38)
FP16 = Format("fp16", 2.0**-11, 2.0**-24, 65504.0)
# tl.dot drops 13 bits of float32. The mean of the relative loss over mantissas spread evenly in
# the logarithm is 2^-10 / 2 * (1 / (2 ln 2)).
TF32 = Format("tf32", 2.0**-10, 2.0**-126, 3.4e38, drift=2.0**-11 / (2 * 0.6931471805599453))

FORMATS = {f.name: f for f in (FP64, FP32, BF16, FP16, TF32)}


def of_dtype(dtype: torch.dtype) -> Format:
    """The format of a torch dtype."""
    name = str(dtype).removeprefix("torch.")
    return next(FORMATS[short] for short, long in _DTYPES.items() if long == name)
