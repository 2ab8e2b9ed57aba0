"""Tensors as 8-bit floats with a scale for each row or block.

Letters: M rows, N columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.precision import check_float

__all__ = ["LARGEST", "check_block", "expanded", "fp8_quantize", "scale_shape"]

LARGEST = 448.0  # the largest finite float8_e4m3fn


def fp8_quantize(x: Tensor, *, block: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Scale each row, or each block, so that its largest magnitude is 448, and round.

        scale = max |x| / 448 over the row or block, 1 where that is 0
        q = round(x / scale)                                          x is about q * scale

    Args:
        x:     (M, N) float64, float32, bfloat16 or float16, finite.
        block: None for one scale a row; (128, 128) for one a block of 128 rows and columns, the
               last ones cut off.

    Returns:
        q:     (M, N) float8_e4m3fn.
        scale: (M, 1) float32, or (ceil(M / 128), ceil(N / 128)).

    Precision:
        The scale is float32(max |x|) / 448 in float32, the quotient float32; ``round`` is to
        nearest, ties to even, saturating at 448.

    Raises:
        ContractError: a shape, a dtype or a block that is not as above.

    Source:
        compressed-tensors, strategies "channel" and "block"; float8_e4m3fn: arXiv 2209.05433.
    """
    check_float(x, "x")
    require(x.dim() == 2, "x", "shape", tuple(x.shape), "(M, N)")
    check_block(block)
    wide = x.float()
    scale = _largest(wide, block) / LARGEST
    scale = torch.where(scale == 0, 1.0, scale)
    quotient = wide / expanded(scale, x.shape, block)
    return quotient.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


def check_block(block: tuple[int, int] | None) -> None:
    """Refuse blocks that no checkpoint has."""
    require(block in (None, (128, 128)), "block", "value", block, "None or (128, 128)")


def scale_shape(shape: tuple[int, int], block: tuple[int, int] | None) -> tuple[int, int]:
    """The shape of the scales of a matrix."""
    M, N = shape
    return (M, 1) if block is None else (-(-M // block[0]), -(-N // block[1]))


def expanded(scale: Tensor, shape: tuple[int, ...], block: tuple[int, int] | None) -> Tensor:
    """The scale of every element."""
    if block is None:
        return scale.expand(shape)
    rows = scale.repeat_interleave(block[0], dim=0)[: shape[0]]
    return rows.repeat_interleave(block[1], dim=1)[:, : shape[1]]


def _largest(x: Tensor, block: tuple[int, int] | None) -> Tensor:
    if block is None:
        return x.abs().amax(dim=1, keepdim=True) if x.shape[1] else x.new_zeros(x.shape[0], 1)
    M, N = scale_shape((x.shape[0], x.shape[1]), block)
    padded = x.new_zeros(M * block[0], N * block[1])
    padded[: x.shape[0], : x.shape[1]] = x.abs()
    return padded.view(M, block[0], N, block[1]).amax(dim=(1, 3)) if M * N else x.new_zeros(M, N)
