"""The rotary position embedding of the Lightning layers: the first dims of a head, in halves.

Letters: B batch, T tokens, H heads, K head dim, R rotary dims.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.precision import check_float
from lingspec.reference.rounding import at

__all__ = ["check_rope", "partial_rope", "rotated_halves"]


@on_one_device
def partial_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (j, j + R/2) of the first R dims of each head; the others pass.

        y[j]       = x[j] cos[j] - x[j + R/2] sin[j]
        y[j + R/2] = x[j + R/2] cos[j] + x[j] sin[j]        0 <= j < R/2

    Args:
        x:   (B, T, H, K) float64, float32, bfloat16 or float16; K >= R.
        cos: (B, T, R/2)  float32.
        sin: (B, T, R/2)  float32.

    What is float32 is float64 where ``x`` is.

    Returns:
        (B, T, H, K), the dtype of ``x``.

    Precision:
        As released: ``cos`` and ``sin`` are rounded to the dtype of ``x``, and so are both
        products and their sum.

    Raises:
        ContractError: a shape or a dtype that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:245-285.
    """
    check_rope(x, cos, sin)
    R = 2 * cos.shape[-1]
    turned, rest = x[..., :R], x[..., R:]
    return torch.cat([rotated_halves(turned, cos, sin), rest], dim=-1)


def rotated_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """All of ``x`` (B, T, H, R) rotated, its two halves being the two coordinates."""
    c, s = (at("rope", table.to(x.dtype))[:, :, None] for table in (cos, sin))  # (B, T, 1, R/2)
    a, b = x.chunk(2, dim=-1)
    first = at("rotated", at("rope_product", a * c) - at("rope_product", b * s))
    second = at("rotated", at("rope_product", b * c) + at("rope_product", a * s))
    return torch.cat([first, second], dim=-1)


def check_rope(x: Tensor, cos: Tensor, sin: Tensor, called: str = "x") -> None:
    """Refuse what the rotations do not allow; ``called`` is the caller's name of x."""
    check_float(x, called)
    require(x.dim() == 4, called, "shape", tuple(x.shape), "(B, T, H, K)")
    B, T, _, K = x.shape
    want = torch.float64 if x.dtype == torch.float64 else torch.float32
    for name, table in (("cos", cos), ("sin", sin)):
        shape = tuple(table.shape)
        ok = len(shape) == 3 and shape[:2] == (B, T) and 2 * shape[2] <= K
        require(ok, name, "shape", shape, f"({B}, {T}, R/2), R <= {K}")
        require(table.dtype == want, name, "dtype", table.dtype, f"{want}")
    require(sin.shape == cos.shape, "sin", "shape", tuple(sin.shape), f"{tuple(cos.shape)}, as cos")
