"""Softmax attention of the MLA layers, over expanded keys and values.

Letters: B batch, T queries, S keys, H heads, K key dim, V value dim, N sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import check_cu_seqlens, on_one_device, require
from lingspec.reference.precision import check_float, work
from lingspec.reference.rounding import at

__all__ = ["mla_attention"]


@on_one_device
def mla_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, cu_seqlens: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Causal softmax attention, with the last query seeing the last key.

        s_tj = scale q_t . k_j                     for j <= t + S - T, per sequence
        lse_t = log(sum_j exp(s_tj)),  o_t = sum_j round(exp(s_tj - lse_t)) v_j

    A row that sees no key has o = 0 and lse = -inf.

    Args:
        q:            (B, T, H, K) float64, float32, bfloat16 or float16.
        k:            (B, S, H, K) dtype of ``q``; S >= T, per sequence.
        v:            (B, S, H, V) dtype of ``q``.
        scale:        A number; the model uses (nope + rope dims)^-0.5, times mscale^2 with YaRN.
        cu_seqlens:   (N + 1,) int32 or int64, first 0, last T, never falling: B must be 1, and
                      queries cu_seqlens[n] to cu_seqlens[n + 1] are sequence n.
        cu_seqlens_k: (N + 1,) likewise for keys, last S; ``cu_seqlens`` where it is not given.

    Returns:
        o:   (B, T, H, V), the dtype of ``q``.
        lse: (B, T, H)     float32 (float64 for float64), natural logarithm.

    Precision:
        float32 (float64 for float64); the weights are rounded to the dtype of ``q`` before the
        product with v, as released; o is rounded once. The released code also rounds q k^T and the
        scores (`RELEASED`), which no fast implementation does.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:474-497.
    """
    _check(q, k, v)
    parts = []
    for of_q, of_k in _sequences(q, k, cu_seqlens, cu_seqlens_k):
        parts.append(_one(q[:, of_q], k[:, of_k], v[:, of_k], scale))
    o, lse = zip(*parts, strict=True)
    return torch.cat(o, dim=1), torch.cat(lse, dim=1)


def _one(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    T, S = q.shape[1], k.shape[1]
    q_w, k_w, v_w = (at("operand", work(x)).transpose(1, 2) for x in (q, k, v))  # (B, H, ., .)
    scores = at("scaled", at("qk", q_w @ k_w.mT) * scale)  # (B, H, T, S)
    hidden = torch.ones(T, S, dtype=torch.bool, device=q.device).triu(S - T + 1)
    scores = scores.masked_fill(hidden, -torch.inf)
    lse = (
        scores.logsumexp(dim=-1, keepdim=True)
        if S
        else scores.new_full((*scores.shape[:3], 1), -torch.inf)
    )
    seen = lse.masked_fill(lse == -torch.inf, 0.0)
    weights = at("weights", (scores - seen).exp().to(q.dtype))
    o = at("output", (work(weights) @ v_w).to(q.dtype))
    return o.transpose(1, 2), lse[..., 0].transpose(1, 2)


def _sequences(
    q: Tensor, k: Tensor, cu_seqlens: Tensor | None, cu_seqlens_k: Tensor | None
) -> list[tuple[slice, slice]]:
    T, S = q.shape[1], k.shape[1]
    if cu_seqlens is None:
        alone = cu_seqlens_k is None
        require(alone, "cu_seqlens_k", "value", cu_seqlens_k, "None without cu_seqlens")
        require(S >= T, "k", "tokens", S, f"at least {T}, as q")
        return [(slice(0, T), slice(0, S))]
    require(q.shape[0] == 1, "q", "batch", q.shape[0], "B = 1 where cu_seqlens is given")
    ends = check_cu_seqlens(cu_seqlens, T, "cu_seqlens")
    ends_k = ends if cu_seqlens_k is None else check_cu_seqlens(cu_seqlens_k, S, "cu_seqlens_k")
    require(ends_k[-1] == S, "k", "tokens", S, f"{ends_k[-1]}, as cu_seqlens ends")
    require(len(ends_k) == len(ends), "cu_seqlens_k", "length", len(ends_k), f"{len(ends)}")
    parts = [
        (slice(a, b), slice(c, d))
        for a, b, c, d in zip(ends, ends[1:], ends_k, ends_k[1:], strict=False)
    ]
    for n, (of_q, of_k) in enumerate(parts):
        queries, keys = of_q.stop - of_q.start, of_k.stop - of_k.start
        require(keys >= queries, "k", f"tokens in sequence {n}", keys, f"at least {queries}, as q")
    return parts or [(slice(0, 0), slice(0, 0))]


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    check_float(q, "q")
    require(q.dim() == 4, "q", "shape", tuple(q.shape), "(B, T, H, K)")
    B, _, H, K = q.shape
    ok = k.dim() == 4 and (k.shape[0], *k.shape[2:]) == (B, H, K)
    require(ok, "k", "shape", tuple(k.shape), f"({B}, S, {H}, {K})")
    ok = v.dim() == 4 and v.shape[:3] == k.shape[:3]
    require(ok, "v", "shape", tuple(v.shape), f"({B}, {k.shape[1]}, {H}, V), as k begins")
    for name, x in (("k", k), ("v", v)):
        require(x.dtype == q.dtype, name, "dtype", x.dtype, f"{q.dtype}, as q")
