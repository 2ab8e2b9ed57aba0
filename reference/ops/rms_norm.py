"""Root-mean-square normalisation of rows.

Letters: D the row's length, d an entry of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.precision import check_float, work
from lingspec.reference.rounding import at

__all__ = ["check_norm", "normalised", "rms_norm"]


@on_one_device
def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """Scale every row to unit root-mean-square, then each entry by its weight.

        y[..., d] = weight[d] * round(x[..., d] / sqrt(mean_d(x[..., d]^2) + eps))

    Args:
        x:      (..., D) float64, float32, bfloat16 or float16; D >= 1.
        weight: (D,)     dtype of ``x``.
        eps:    Added to the mean square; > 0.

    Returns:
        (..., D), the dtype of ``x``.

    Precision:
        float32 (float64 for float64) up to ``round``, which is to the dtype of ``x``: before the
        weight, as released. The product is rounded to the same dtype.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:168-182.
    """
    check_norm(x, weight, eps)
    return at("output", weight * normalised(x, eps))


def normalised(x: Tensor, eps: float) -> Tensor:
    """Rows of ``x`` divided by their root-mean-square, in its dtype."""
    wide = work(x)
    mean_square = wide.square().mean(dim=-1, keepdim=True)
    return at("normed", (wide * torch.rsqrt(mean_square + eps)).to(x.dtype))


def check_norm(x: Tensor, weight: Tensor, eps: float, name: str = "x", of: str = "weight") -> None:
    """Refuse what no norm allows; ``name`` and ``of`` are what the caller calls x and weight."""
    check_float(x, name)
    require(x.dim() >= 1 and x.shape[-1] >= 1, name, "shape", tuple(x.shape), "(..., D), D >= 1")
    shape = (x.shape[-1],)
    require(weight.shape == shape, of, "shape", tuple(weight.shape), f"{shape}, as {name} ends")
    require(weight.dtype == x.dtype, of, "dtype", weight.dtype, f"{x.dtype}, as {name}")
    require(eps > 0, "eps", "value", eps, "a number > 0")
