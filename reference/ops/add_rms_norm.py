"""A residual addition and the normalisation of its result.

Letters: D the row's length.
"""

from __future__ import annotations

from torch import Tensor

from lingspec.reference.checks import on_one_device
from lingspec.reference.ops.rms_norm import check_norm, normalised
from lingspec.reference.precision import same, work
from lingspec.reference.rounding import at

__all__ = ["add_rms_norm"]


@on_one_device
def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """Add, keep the sum, and return its root-mean-square norm.

        residual_out = round(x + residual)
        y = rms_norm(residual_out, weight)

    Args:
        x:        (..., D) float64, float32, bfloat16 or float16; D >= 1.
        residual: (..., D) dtype of ``x``. It is not written to.
        weight:   (D,)     dtype of ``x``.
        eps:      Added to the mean square; > 0.

    Returns:
        y:            (..., D), the dtype of ``x``.
        residual_out: (..., D), the dtype of ``x``.

    Precision:
        The sum is rounded to the dtype of ``x`` before it is normalised, as released, where the
        addition and the norm are two lines. Then as `rms_norm`.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:1075-1079.
    """
    check_norm(x, weight, eps)
    same(residual, "residual", x, "x")
    total = at("residual", (work(x) + work(residual)).to(x.dtype))
    return at("output", weight * normalised(total, eps)), total
