"""What the Lightning layers do to queries and keys before attention.

Letters: B batch, T tokens, H heads, K head dim, R rotary dims.
"""

from __future__ import annotations

from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.ops.partial_rope import check_rope, partial_rope
from lingspec.reference.ops.rms_norm import check_norm, rms_norm
from lingspec.reference.rounding import at

__all__ = ["qk_norm_rope"]


@on_one_device
def qk_norm_rope(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, *,
    eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Normalise every head of q and k over its K dims, then rotate the first R of them.

    The weight vector is shared by all heads, and is applied before the rotation.

    Args:
        q:        (B, T, H, K) float64, float32, bfloat16 or float16.
        k:        (B, T, H, K) dtype of ``q``; its H may be another.
        q_weight: (K,)         dtype of ``q``.
        k_weight: (K,)         dtype of ``q``.
        cos:      (B, T, R/2)  float32.
        sin:      (B, T, R/2)  float32.
        eps:      Added to the mean square; > 0.

    What is float32 is float64 where ``q`` is.

    Returns:
        q and k, shapes and dtypes as given.

    Precision:
        As `rms_norm`, then as `partial_rope`.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:840-845.
    """
    for name, x, weight in (("q", q, q_weight), ("k", k, k_weight)):
        check_rope(x, cos, sin, name)
        check_norm(x, weight, eps, name, f"{name}_weight")
    require(k.dtype == q.dtype, "k", "dtype", k.dtype, f"{q.dtype}, as q")
    require(k.shape[-1] == q.shape[-1], "k", "last dim", k.shape[-1], f"{q.shape[-1]}, as q")
    q = partial_rope(at("weighed", rms_norm(q, q_weight, eps=eps)), cos, sin)
    k = partial_rope(at("weighed", rms_norm(k, k_weight, eps=eps)), cos, sin)
    return q, k
