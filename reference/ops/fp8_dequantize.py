"""The numbers that 8-bit floats and their scales stand for.

Letters: M rows, N columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.ops.fp8_quantize import check_block, expanded, scale_shape
from lingspec.reference.precision import FLOATS

__all__ = ["fp8_dequantize", "unscaled"]


@on_one_device
def fp8_dequantize(
    q: Tensor, scale: Tensor, *, block: tuple[int, int] | None = None, dtype: torch.dtype
) -> Tensor:
    """Each 8-bit float times the scale of its row or block.

        x = q * scale

    Args:
        q:     (M, N) float8_e4m3fn.
        scale: (M, 1) float32, or (ceil(M / 128), ceil(N / 128)) with ``block``.
        block: None or (128, 128), as `fp8_quantize`.
        dtype: float64, float32, bfloat16 or float16.

    Returns:
        (M, N), ``dtype``.

    Precision:
        The product is float32 (float64 for float64), rounded once to ``dtype``.

    Raises:
        ContractError: a shape, a dtype or a block that is not as above.

    Source:
        compressed-tensors, strategies "channel" and "block".
    """
    require(q.dtype == torch.float8_e4m3fn, "q", "dtype", q.dtype, "float8_e4m3fn")
    require(q.dim() == 2, "q", "shape", tuple(q.shape), "(M, N)")
    check_block(block)
    want = scale_shape((q.shape[0], q.shape[1]), block)
    require(tuple(scale.shape) == want, "scale", "shape", tuple(scale.shape), f"{want}")
    require(scale.dtype == torch.float32, "scale", "dtype", scale.dtype, "torch.float32")
    require(dtype in FLOATS, "dtype", "value", dtype, "float64, float32, bfloat16 or float16")
    return unscaled(q, scale, block, dtype)


def unscaled(q: Tensor, scale: Tensor, block: tuple[int, int] | None, dtype: torch.dtype) -> Tensor:
    """The product, in float32 or float64, rounded to ``dtype``."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return (q.to(wide) * expanded(scale.to(wide), q.shape, block)).to(dtype)
