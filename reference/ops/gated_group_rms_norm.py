"""The norm and gate behind Lightning attention.

Letters: D channels, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.ops.rms_norm import check_norm, normalised
from lingspec.reference.precision import same, work
from lingspec.reference.rounding import at

__all__ = ["gated_group_rms_norm"]


@on_one_device
def gated_group_rms_norm(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    """Normalise ``groups`` equal parts of each row on their own, then weigh and gate the entries.

        y = (weight * round(x / sqrt(mean over its group(x^2) + eps))) * sigmoid(gate)

    The gate is not normalised and does not enter the mean.

    Args:
        x:      (..., D) float64, float32, bfloat16 or float16; heads joined, head-major.
        gate:   (..., D) dtype of ``x``.
        weight: (D,)     dtype of ``x``.
        groups: The number of groups, >= 1, a divisor of D; what the released configuration calls
                ``group_norm_size``.
        eps:    Added to the mean square; > 0.

    Returns:
        (..., D), the dtype of ``x``.

    Precision:
        As `rms_norm`, with the product of norm and weight, the sigmoid, and their product rounded
        to the dtype of ``x``.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:185-204 and 878-882.
    """
    check_norm(x, weight, eps)
    same(gate, "gate", x, "x")
    D = x.shape[-1]
    require(groups >= 1 and D % groups == 0, "groups", "value", groups, f"a divisor of {D}")

    grouped = x.reshape(*x.shape[:-1], groups, D // groups)
    weighed = at("weighed", weight * normalised(grouped, eps).reshape(x.shape))
    opened = at("gate", at("sigmoid", torch.sigmoid(work(gate))).to(x.dtype))
    return at("output", weighed * opened)
