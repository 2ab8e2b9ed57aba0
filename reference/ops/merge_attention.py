"""Two attentions over different keys, made one.

Letters: B batch, T tokens, H heads, V value dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.precision import check_float, same, work, work_dtype
from lingspec.reference.rounding import at

__all__ = ["merge_attention"]


@on_one_device
def merge_attention(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> tuple[Tensor, Tensor]:
    """The attention over both sets of keys, from the attention over each.

        lse = log(exp(lse1) + exp(lse2))
        o = exp(lse1 - lse) o1 + exp(lse2 - lse) o2

    Where both are -inf there is no key: o = 0 and lse = -inf.

    Args:
        o1:   (..., V) float64, float32, bfloat16 or float16.
        lse1: (...)    float32, natural logarithm; not NaN and not +inf.
        o2:   (..., V) dtype of ``o1``.
        lse2: (...)    float32, likewise.

    What is float32 is float64 where ``o1`` is.

    Returns:
        o:   (..., V), the dtype of ``o1``.
        lse: (...)     float32.

    Precision:
        float32 (float64 for float64), o rounded once.

    Raises:
        ContractError: a shape or a dtype that is not as above.

    Source:
        Merging of softmax states: arXiv 2501.01005, section 2.2.
    """
    check_float(o1, "o1")
    same(o2, "o2", o1, "o1")
    for name, lse in (("lse1", lse1), ("lse2", lse2)):
        shape, want = tuple(o1.shape[:-1]), work_dtype(o1)
        ok = tuple(lse.shape) == shape
        require(ok, name, "shape", tuple(lse.shape), f"{shape}, as o1 begins")
        require(lse.dtype == want, name, "dtype", lse.dtype, f"{want}")
    lse = torch.logaddexp(lse1, lse2)
    first, second = (_share(part, lse)[..., None] for part in (lse1, lse2))
    return at("output", (first * work(o1) + second * work(o2)).to(o1.dtype)), lse


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """exp(part - whole), and 0 where there is no key at all."""
    return (part - whole.masked_fill(whole == -torch.inf, 0.0)).exp()
