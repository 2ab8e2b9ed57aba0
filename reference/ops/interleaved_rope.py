"""The rotary position embedding of the MLA layers: neighbouring dims are a pair.

Letters: B batch, T tokens, H heads, R rotary dims.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.ops.partial_rope import check_rope, rotated_halves

__all__ = ["interleaved_rope"]


@on_one_device
def interleaved_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (2j, 2j + 1), and leave them de-interleaved.

        y[j]       = x[2j] cos[j] - x[2j + 1] sin[j]
        y[j + R/2] = x[2j + 1] cos[j] + x[2j] sin[j]        0 <= j < R/2

    The result is not put back into pairs, as released. Scores do not see it, since queries and keys
    are in the same order; cached keys do.

    Args:
        x:   (B, T, H, R) float64, float32, bfloat16 or float16.
        cos: (B, T, R/2)  float32.
        sin: (B, T, R/2)  float32.

    What is float32 is float64 where ``x`` is.

    Returns:
        (B, T, H, R), the dtype of ``x``.

    Precision:
        As `partial_rope`.

    Raises:
        ContractError: a shape or a dtype that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:500-535.
    """
    check_rope(x, cos, sin)
    R = x.shape[-1]
    require(2 * cos.shape[-1] == R, "x", "shape", tuple(x.shape), f"(B, T, H, {2 * cos.shape[-1]})")
    return rotated_halves(torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1), cos, sin)
