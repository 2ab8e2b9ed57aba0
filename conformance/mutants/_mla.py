"""Right implementations of softmax attention and its cache, and the lines that mutants replace.

B batch, T queries, S keys, H heads, K key dim, V value dim, L latent rank, P pages, G rows of one.
Everything is computed in float32 (float64 where the inputs are); weights are rounded to the dtype
of the inputs before their product with the values, and o once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor]
Scores = Callable[[Tensor, Tensor, float], Tensor]
Hidden = Callable[[int, int], Tensor]
Soften = Callable[[Tensor, Tensor, torch.dtype], Result]


def wide(x: Tensor) -> Tensor:
    """In the dtype of all arithmetic."""
    return x if x.dtype == torch.float64 else x.float()


def scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """(..., T, K) and (..., S, K) to (..., T, S)."""
    return (wide(q) @ wide(k).mT) * scale


def hidden(T: int, S: int) -> Tensor:
    """Keys that queries do not see, the last query seeing the last key."""
    return torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)


def largest(s: Tensor) -> Tensor:
    """The largest score of each row, 0 where there is none."""
    m = s.amax(-1) if s.shape[-1] else s.new_full(s.shape[:-1], -torch.inf)
    return m.masked_fill(m == -torch.inf, 0.0)


def soften(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
    """(..., T, S) scores and (..., S, V) values to o and lse, with one division at the end."""
    m = largest(s)
    p = torch.exp(s - m[..., None])
    total = p.sum(-1)
    o = p.to(dtype).to(s.dtype) @ wide(v)
    return (o / total.masked_fill(total == 0, 1.0)[..., None]).to(dtype), m + total.log()


def sparing(tile: int, least: float) -> Soften:
    """A row skips the tiles of keys whose weights, beside the largest so far, are below ``least``.

    lse is that of all keys, as in the kernels that have such a threshold.
    """

    def softened(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        kept, best = s.clone(), s.new_full(s.shape[:-1], -torch.inf)
        for c in range(0, s.shape[-1], tile):
            top = s[..., c : c + tile].amax(-1)
            low = top < best + math.log(least)
            kept[..., c : c + tile].masked_fill_(low[..., None], -torch.inf)
            best = torch.maximum(best, top)
        return soften(kept, v, dtype)[0], soften(s, v, dtype)[1]

    return softened


def one(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, scores: Scores = scores,
    hidden: Hidden = hidden, soften: Soften = soften,
) -> Result:  # fmt: skip
    """One sequence, (B, T, H, .)."""
    s = scores(q.transpose(1, 2), k.transpose(1, 2), scale)
    s = s.masked_fill(hidden(q.shape[1], k.shape[1]), -torch.inf)
    o, lse = soften(s, v.transpose(1, 2), q.dtype)
    return o.transpose(1, 2), lse.transpose(1, 2)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, cu_seqlens: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None, one: Callable[..., Result] = one, **lines: Any,
) -> Result:  # fmt: skip
    """mla_attention; ``one`` and its lines can be replaced."""
    if cu_seqlens is None:
        return one(q, k, v, scale, **lines)
    ends = cu_seqlens.tolist()
    ends_k = ends if cu_seqlens_k is None else cu_seqlens_k.tolist()
    parts = [
        one(q[:, a:b], k[:, c:d], v[:, c:d], scale, **lines)
        for (a, b), (c, d) in zip(pairwise(ends), pairwise(ends_k), strict=True)
    ]
    if not parts:
        return one(q, k, v, scale, **lines)
    o, lse = zip(*parts, strict=True)
    return torch.cat(o, dim=1), torch.cat(lse, dim=1)


def rows(cache: Tensor, pages: Tensor, length: int) -> Tensor:
    """The rows of one sequence, (length, W)."""
    G = cache.shape[1]
    used = pages[: -(-length // G)].long()
    return cache[used].flatten(0, 1)[:length]


def decode(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, *,
    scale: float, rows: Callable[[Tensor, Tensor, int], Tensor] = rows, scores: Scores = scores,
    soften: Soften = soften,
) -> Result:  # fmt: skip
    """mla_decode; its lines can be replaced."""
    B, H, L = q_latent.shape
    q = torch.cat([q_latent, q_rope], dim=-1)
    o = torch.zeros(B, H, L, dtype=q.dtype)
    lse = torch.full((B, H), -torch.inf, dtype=wide(q).dtype)
    for b, length in enumerate(lengths.tolist()):
        if length:
            keys = rows(cache, pages[b], length)
            o[b], lse[b] = soften(scores(q[b], keys, scale), keys[:, :L], q.dtype)
    return o, lse


def shares(lse1: Tensor, lse2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The share of each side, and the lse of both."""
    m = torch.maximum(lse1, lse2)
    m = m.masked_fill(m == -torch.inf, 0.0)
    a, b = torch.exp(lse1 - m), torch.exp(lse2 - m)
    total = (a + b).masked_fill(a + b == 0, 1.0)
    return a / total, b / total, m + (a + b).log()


def merge(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    """merge_attention."""
    a, b, lse = shares(lse1, lse2)
    return (a[..., None] * wide(o1) + b[..., None] * wide(o2)).to(o1.dtype), lse


def write(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    """latent_cache_write."""
    G = cache.shape[1]
    for t, slot in enumerate(slots.tolist()):
        if slot >= 0:
            cache[slot // G, slot % G] = torch.cat([latent[t], rope[t]])
