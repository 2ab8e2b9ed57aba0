"""Right MLA attention in several forms."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._mla import (
    Result,
    Tensor,
    attention,
    largest,
    merge,
    soften,
    wide,
)  # fmt: skip

OP = "mla_attention"
ALL = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}


BASES = {False: (torch.exp, torch.log, 1.0), True: (torch.exp2, torch.log2, 1 / math.log(2))}


def normalised(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
    """Weights divided by their sum, rounded, then multiplied by the values."""
    m = largest(s)
    p = torch.exp(s - m[..., None])
    total = p.sum(-1)
    weights = (p / total.masked_fill(total == 0, 1.0)[..., None]).to(dtype).to(s.dtype)
    return (weights @ wide(v)).to(dtype), m + total.log()


def online(
    s: Tensor, v: Tensor, dtype: torch.dtype, *, size: int, backward: bool = False,
    base_two: bool = False, rounded: bool = True,
) -> Result:  # fmt: skip
    """One block of keys after another, with a running maximum; in base 2 if asked."""
    exp, log, unit = BASES[base_two]
    s, v = s * unit, wide(v)
    m = s.new_full(s.shape[:-1], -torch.inf)
    total, o = torch.zeros_like(m), s.new_zeros((*s.shape[:-1], v.shape[-1]))
    starts: Iterable[int] = range(0, s.shape[-1], size)
    for c in sorted(starts, reverse=backward):
        block = s[..., c : c + size]
        new = torch.maximum(m, block.amax(-1))
        shift = new.masked_fill(new == -torch.inf, 0.0)
        keep = exp(m - shift)
        p = exp(block - shift[..., None])
        total = total * keep + p.sum(-1)
        p = p.to(dtype).to(s.dtype) if rounded else p
        o = o * keep[..., None] + p @ v[..., c : c + size, :]
        m = new
    o = o / total.masked_fill(total == 0, 1.0)[..., None]
    return o.to(dtype), (m.masked_fill(total == 0, 0.0) + log(total)) / unit


def one_by_one(
    s: Tensor, v: Tensor, dtype: torch.dtype, *, backward: bool = False, base_two: bool = False,
    rounded: bool = True,
) -> Result:  # fmt: skip
    """As `online` with blocks of one key; what no sum is part of is computed for all keys first."""
    exp, log, unit = BASES[base_two]
    s, v = s * unit, wide(v)
    if backward:
        s, v = s.flip(-1), v.flip(-2)
    none = s.new_full((*s.shape[:-1], 1), -torch.inf)
    m = torch.cat([none, s], dim=-1).cummax(-1).values  # before the first key, and after each
    shift = m[..., 1:].masked_fill(m[..., 1:] == -torch.inf, 0.0)
    keep, p = exp(m[..., :-1] - shift), exp(s - shift)
    weights = p.to(dtype).to(s.dtype) if rounded else p
    total, o = torch.zeros_like(none[..., 0]), s.new_zeros((*s.shape[:-1], v.shape[-1]))
    for c, (kept, of_key) in enumerate(zip(keep.unbind(-1), p.unbind(-1), strict=True)):
        total = total * kept + of_key
        o = o * kept[..., None] + weights[..., c, None] * v[..., c, None, :]
    o = o / total.masked_fill(total == 0, 1.0)[..., None]
    return o.to(dtype), (m[..., -1].masked_fill(total == 0, 0.0) + log(total)) / unit


@honest(OP, profile=ALL, differs="the whole softmax, divided once at the end")
def divides_the_sum_of_values_once(*call: Any, **options: Any) -> Result:
    return attention(*call, **options)


@honest(OP, profile=ALL, differs="weights normalised, then rounded, then multiplied")
def normalises_weights_before_rounding_them(*call: Any, **options: Any) -> Result:
    return attention(*call, **options, soften=normalised)


@honest(OP, profile=ALL, differs="online softmax over blocks of 16 keys, in base 2")
def runs_online_over_blocks_of_16_keys(*call: Any, **options: Any) -> Result:
    return attention(*call, **options, soften=partial(online, size=16, base_two=True))


@honest(
    OP, profile=ALL, differs="online softmax over blocks of 64 keys, from the last to the first"
)
def runs_online_over_blocks_from_the_last_key(*call: Any, **options: Any) -> Result:
    return attention(*call, **options, soften=partial(online, size=64, backward=True))


@honest(OP, profile=ALL, differs="online softmax, one key after another; weights not rounded")
def runs_online_one_key_after_another(*call: Any, **options: Any) -> Result:
    return attention(*call, **options, soften=partial(one_by_one, rounded=False))


@honest(OP, profile=ALL, differs="one key after another from the last, in base 2")
def runs_online_one_key_after_another_backwards(*call: Any, **options: Any) -> Result:
    one = partial(one_by_one, backward=True, base_two=True)
    return attention(*call, **options, soften=one)


@honest(OP, profile=ALL, differs="three splits of the keys, each on its own, merged by their lse")
def merges_three_splits_of_the_keys(*call: Any, **options: Any) -> Result:
    def split(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        size = -(-s.shape[-1] // 3) or 1
        parts = [soften(s[..., c : c + size], v[..., c : c + size, :], dtype) if dtype == s.dtype
                 else _wide_part(s[..., c : c + size], v[..., c : c + size, :], dtype)
                 for c in range(0, s.shape[-1], size)]  # fmt: skip
        if not parts:
            return soften(s, v, dtype)
        o, lse = parts[0]
        for other, of_other in parts[1:]:
            o, lse = merge(o, lse, other, of_other)
        return o.to(dtype), lse

    return attention(*call, **options, soften=split)


def _wide_part(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
    """A part whose result is not rounded yet, while its weights are."""
    m = largest(s)
    p = torch.exp(s - m[..., None])
    total = p.sum(-1)
    o = p.to(dtype).to(s.dtype) @ wide(v)
    return o / total.masked_fill(total == 0, 1.0)[..., None], m + total.log()


@honest(OP, profile=ALL, differs="the scale, and the base, folded into float32 queries")
def folds_scale_and_base_into_the_queries(*call: Any, **options: Any) -> Result:
    def folded(q: Tensor, k: Tensor, scale: float) -> Tensor:
        return (wide(q) * (scale / math.log(2))) @ wide(k).mT

    def base_two(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        m = largest(s)
        p = torch.exp2(s - m[..., None])
        total = p.sum(-1)
        o = p.to(dtype).to(s.dtype) @ wide(v)
        o = o / total.masked_fill(total == 0, 1.0)[..., None]
        return o.to(dtype), (m + total.log2()) * math.log(2)

    return attention(*call, **options, scores=folded, soften=base_two)


@honest(
    OP, array="numpy", profile={"float64": "fp64", "float32": "fp32"}, differs="NumPy, einsum",
)  # fmt: skip
def attends_with_numpy(
    q: Any, k: Any, v: Any, *, scale: float, cu_seqlens: Any = None, cu_seqlens_k: Any = None
) -> Any:
    ends = [0, q.shape[1]] if cu_seqlens is None else list(cu_seqlens)
    ends_k = [0, k.shape[1]] if cu_seqlens is None else ends
    ends_k = ends_k if cu_seqlens_k is None else list(cu_seqlens_k)
    o = np.zeros((*q.shape[:3], v.shape[3]), q.dtype)
    lse = np.zeros(q.shape[:3], q.dtype)
    for n in range(len(ends) - 1):
        a, b, c, d = ends[n], ends[n + 1], ends_k[n], ends_k[n + 1]
        if a == b:
            continue
        s = np.einsum("bthk,bshk->bths", q[:, a:b], k[:, c:d]) * q.dtype.type(scale)
        behind = np.triu(np.ones((b - a, d - c), bool), d - c - b + a + 1)
        s[np.broadcast_to(behind[:, None], s.shape)] = -np.inf
        m = s.max(-1, keepdims=True)
        p = np.exp(s - m)
        total = p.sum(-1, keepdims=True)
        o[:, a:b] = np.einsum("bths,bshv->bthv", p, v[:, c:d]) / total
        lse[:, a:b] = (m + np.log(total))[..., 0]
    return o, lse
