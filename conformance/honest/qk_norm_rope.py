"""Right norms and rotations of queries and keys in several forms."""

from __future__ import annotations

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.rms_norm import ALL, ONCE, one_by_one
from lingspec.conformance.mutants._rope import Result, Tensor, both, rotated
from lingspec.conformance.mutants._rows import fused, norm

OP = "qk_norm_rope"


@honest(OP, profile=ALL, differs="norm and weight rounded, the rotation wide")
def rounds_before_the_rotation(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    return both(q, k, q_weight, k_weight, cos, sin, eps=eps, mean=one_by_one)


@honest(OP, profile=ONCE, differs="as SGLang and vLLM: everything wide, one rounding")
def rounds_heads_once(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    R = 2 * cos.shape[-1]

    def head(x: Tensor, weight: Tensor) -> Tensor:
        kind = cos.dtype
        y = fused(x.to(kind), weight.to(kind), eps=eps)
        return torch.cat([rotated(y[..., :R], cos, sin), y[..., R:]], -1).to(x.dtype)

    return head(q, q_weight), head(k, k_weight)


@honest(OP, profile=ALL, differs="as released: the rotation in the dtype of q as well")
def rotates_heads_in_their_dtype(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    R = 2 * cos.shape[-1]
    c, s = (torch.cat([t, t], -1).to(q.dtype)[:, :, None] for t in (cos, sin))

    def head(x: Tensor, weight: Tensor) -> Tensor:
        x = norm(x, weight, eps=eps)
        a, b = x[..., :R].chunk(2, dim=-1)
        return torch.cat([x[..., :R] * c + torch.cat([-b, a], -1) * s, x[..., R:]], -1)

    return head(q, q_weight), head(k, k_weight)
