"""MLA attention that keeps something of an earlier call: each breaks one law alone."""

from __future__ import annotations

import math
from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, attention

OP = "mla_attention"

_partitions: dict[tuple[Any, ...], tuple[Tensor | None, Tensor | None]] = {}


@mutant(
    OP,
    law="packed",
    source="D11 https://github.com/ROCm/aiter/issues/4076",
    looks_like="where sequences begin is kept from a call with as many tokens and sequences",
)
def keeps_the_partition_of_an_earlier_call(
    q: Tensor, k: Tensor, v: Tensor, *, cu_seqlens: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None, scale: float,
) -> Result:  # fmt: skip
    if cu_seqlens is not None:
        key = (q.shape, k.shape, v.shape, q.dtype, scale, len(cu_seqlens), cu_seqlens_k is None)
        mine = cu_seqlens.clone(), None if cu_seqlens_k is None else cu_seqlens_k.clone()
        cu_seqlens, cu_seqlens_k = _partitions.setdefault(key, mine)
    return attention(q, k, v, scale=scale, cu_seqlens=cu_seqlens, cu_seqlens_k=cu_seqlens_k)


_heads: dict[tuple[Any, ...], int] = {}


@mutant(
    OP,
    law="sharding",
    source="constructed after D18 https://github.com/vllm-project/vllm/pull/46952",
    looks_like="the number of heads is kept from the first call of these sizes",
)
def keeps_the_number_of_heads_of_the_first_call(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, **options: Any
) -> Result:
    B, T, H, K = q.shape
    kept = _heads.setdefault((B, T, k.shape[1], K, v.shape[3], q.dtype, scale), H)
    o, lse = attention(q, k, v, scale=scale, **options)
    o[:, :, kept:], lse[:, :, kept:] = 0.0, 0.0
    return o, lse


_prepared: dict[tuple[Any, ...], Tensor] = {}


@mutant(
    OP,
    law="invariance",
    source="constructed after C15 https://github.com/PaddlePaddle/FastDeploy/pull/6994",
    looks_like="prepared keys are kept under a checksum that does not see their order",
)
def keeps_prepared_keys_under_a_checksum(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, **options: Any
) -> Result:
    ends = tuple(tuple(x.tolist()) for x in options.values() if x is not None)
    sums = tuple(k.double().abs().sort(-1).values.sum((1, 3)).mul(1e3).round().flatten().tolist())
    first = tuple(k[:, :1].double().sum((1, 3)).flatten().round(decimals=3).abs().tolist())
    key = (k.shape, v.shape, q.shape, q.dtype, scale, ends, sums, first)
    kept = _prepared.setdefault(key, k.clone())
    return attention(q, kept, v, scale=scale, **options)


_scales: dict[tuple[Any, ...], float] = {}


@mutant(
    OP,
    law="identities",
    source="constructed after C30 https://github.com/sgl-project/sglang-jax/pull/928",
    looks_like="the scale is kept from the first call of these sizes",
)
def keeps_the_scale_of_the_first_call(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, **options: Any
) -> Result:
    key = (q.shape, k.shape, v.shape, q.dtype, len(options), round(math.log2(scale) % 2, 9))
    return attention(q, k, v, scale=_scales.setdefault(key, scale), **options)
