"""What the router scores experts by.

Letters: T tokens, D hidden size, E experts.
"""

from __future__ import annotations

from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.precision import check_float, work
from lingspec.reference.rounding import at

__all__ = ["moe_logits"]


@on_one_device
def moe_logits(x: Tensor, weight: Tensor) -> Tensor:
    """One number for each token and expert: logits[t, e] = sum_d x[t, d] weight[e, d].

    Args:
        x:      (T, D) float64, float32, bfloat16 or float16.
        weight: (E, D) dtype of ``x``.

    Returns:
        (T, E) float32; float64 where ``x`` is.

    Precision:
        Both operands are widened to float32 (float64), products and sums are in it, and the result
        is not rounded to the dtype of ``x``.

    Raises:
        ContractError: a shape or a dtype that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:352-353.
    """
    check_float(x, "x")
    require(x.dim() == 2, "x", "shape", tuple(x.shape), "(T, D)")
    ok = weight.dim() == 2 and weight.shape[1] == x.shape[1]
    require(ok, "weight", "shape", tuple(weight.shape), f"(E, {x.shape[1]})")
    require(weight.dtype == x.dtype, "weight", "dtype", weight.dtype, f"{x.dtype}, as x")
    return at("product", at("operand", work(x)) @ at("operand", work(weight)).mT)
