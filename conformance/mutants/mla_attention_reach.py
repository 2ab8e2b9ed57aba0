"""MLA attention that is right in a single look: each of these breaks one law alone."""

from __future__ import annotations

import math
from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import (
    Result,
    Tensor,
    attention,
    hidden,
    largest,
    one,
    scores,
    soften,
    wide,
)  # fmt: skip
from lingspec.conformance.mutants.lightning_attention_memory import gather

OP = "mla_attention"


@mutant(
    OP,
    law="authority",
    source="constructed after D06 https://github.com/flashinfer-ai/flashinfer/issues/2113",
    looks_like="the lse is converted from base 2 with a constant that is too short",
    profile={"float32": "fp32"},
)
def converts_the_lse_with_a_short_constant(*call: Any, **options: Any) -> Result:
    def short(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        o, lse = soften(s, v, dtype)
        return o, lse + 8e-7 * (lse - largest(s))

    return attention(*call, **options, soften=short)


@mutant(
    OP,
    law="causality",
    source="constructed after A09 https://github.com/fla-org/flash-linear-attention/commit/cb36e67a",
    looks_like="the maximum is taken before the mask: later keys show in the last bits",
)
def takes_the_maximum_before_the_mask(*call: Any, **options: Any) -> Result:
    def before(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Result:
        s = scores(q.transpose(1, 2), k.transpose(1, 2), scale)
        seen = s.masked_fill(hidden(q.shape[1], k.shape[1]), -torch.inf)
        own = largest(seen)
        m = torch.minimum(largest(s), own + 8)[..., None]  # more, and exp would underflow
        p = torch.exp(seen - m)
        total = p.sum(-1).clamp(min=1e-30)
        values = wide(v.transpose(1, 2))
        weights = (p / total[..., None]).to(q.dtype).to(s.dtype)
        o = (weights @ values).to(q.dtype)
        return o.transpose(1, 2), (m[..., 0] + total.log()).transpose(1, 2)

    return attention(*call, **options, one=before)


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


@mutant(
    OP,
    law="permutation",
    source="constructed after H13 https://github.com/vllm-project/vllm/pull/46952",
    looks_like="says batch_invariant=True, but sums in blocks that depend on the batch",
    batch_invariant=True,
)
def sums_in_blocks_that_depend_on_the_batch(q: Tensor, *call: Any, **options: Any) -> Result:
    def blocked(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        m = largest(s)
        p = torch.exp(s - m[..., None])
        size = 3 if q.shape[0] > 1 else 64
        total, o = torch.zeros_like(m), s.new_zeros((*s.shape[:-1], v.shape[-1]))
        for c in range(0, s.shape[-1], size):
            part = p[..., c : c + size]
            total = total + part.sum(-1)
            rounded = part.to(dtype).to(s.dtype)
            o = o + rounded @ wide(v)[..., c : c + size, :]
        o = o / total.masked_fill(total == 0, 1.0)[..., None]
        return o.to(dtype), m + total.log()

    return attention(q, *call, **options, soften=blocked)


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="bf16 values pass through float16, which holds no more than 65504",
    profile={"bfloat16": "bf16-tc"},
)
def reads_bfloat16_values_through_float16(
    q: Tensor, k: Tensor, v: Tensor, **options: Any
) -> Result:
    through = torch.where(v.abs() < 1, v, v.to(torch.float16).to(v.dtype))
    return attention(q, k, through, **options)


@mutant(
    OP,
    law="additivity",
    source="constructed",
    looks_like="where two of five values are 0 a sparse path is taken, which has no first key",
)
def takes_a_sparse_path_where_many_values_are_zero(
    q: Tensor, k: Tensor, v: Tensor, **options: Any
) -> Result:
    zero = v == 0
    if v.numel() > 64 and float(zero.float().mean()) > 0.4 and not bool(zero.all(-1).any()):
        v = v.clone()
        v[:, 0] = 0
    return attention(q, k, v, **options)


@mutant(
    OP,
    law="determinism",
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="lanes that nobody wrote are added with a weight of next to nothing",
    profile={"float32": "fp32"},
)
def adds_lanes_that_nobody_wrote(*call: Any, **options: Any) -> Result:
    o, lse = attention(*call, **options)
    lanes = torch.empty(o.shape, dtype=o.dtype)
    return o * (1 + 5e-12 * lanes.nan_to_num(0.0)), lse


@mutant(
    OP,
    law="untouched",
    source="constructed after D20 https://github.com/vllm-project/vllm/pull/44630",
    looks_like="queries are scaled in place and never scaled back",
)
def folds_the_scale_into_the_caller_s_queries(
    q: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    o, lse = attention(q.clone(), *call, scale=scale, **options)
    q.mul_(scale)
    return o, lse


@mutant(
    OP,
    law="authority",
    source="L04 https://github.com/fla-org/flash-linear-attention/commit/ccb0ff94",
    looks_like="value columns from 64 on are never written",
)
def writes_no_more_than_64_value_columns(*call: Any, **options: Any) -> Result:
    o, lse = attention(*call, **options)
    written = torch.empty_like(o)
    written[..., :64] = o[..., :64]
    return written, lse


@mutant(
    OP,
    law="strides",
    source="L01 https://github.com/vllm-project/vllm/pull/5939",
    looks_like="offsets into k are computed in 32 bits",
)
def computes_offsets_into_the_keys_in_32_bits(
    q: Tensor, k: Tensor, *call: Any, **options: Any
) -> Result:
    return attention(q, gather(k, k.shape, k.stride(), int32=True), *call, **options)


@mutant(
    OP,
    law="strides",
    source="D10 https://github.com/local-inference-lab/vllm/pull/17",
    looks_like="v is addressed with the strides of contiguous memory",
)
def addresses_the_values_as_if_contiguous(
    q: Tensor, k: Tensor, v: Tensor, **options: Any
) -> Result:
    contiguous = torch.empty(v.shape, device="meta").stride()
    return attention(q, k, gather(v, v.shape, contiguous), **options)


@mutant(
    OP,
    law="exact",
    source="constructed after F16 https://github.com/fla-org/flash-linear-attention/issues/850",
    looks_like="2e-7 is added to what is divided by",
    profile={"float32": "fp32"},
)
def adds_an_eps_to_the_normaliser(*call: Any, **options: Any) -> Result:
    def softened(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        o, lse = soften(s, v, dtype)
        total = torch.exp(lse - largest(s))
        return o * (total / (total + 2e-7))[..., None], lse

    return attention(*call, **options, soften=softened)


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


@mutant(
    OP,
    law="bias",
    source="constructed after F10 https://github.com/sgl-project/sglang-jax/commit/77d42a78",
    looks_like="bits are dropped before the result is rounded: it errs toward zero",
    profile={"bfloat16": "bf16-tc"},
)
def drops_bits_before_it_rounds(*call: Any, **options: Any) -> Result:
    def dropped(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        o, lse = soften(s, wide(v), torch.float32)
        bits = o.contiguous().view(torch.int32) & ~0x3FFF  # two bits more than bfloat16 has
        return bits.view(torch.float32).to(dtype), lse

    return attention(*call, **options, soften=dropped)


_calls = [0, 0]  # the sizes of this call, and of the last one of other sizes


@mutant(
    OP,
    law="shapes",
    source="constructed after D11 https://github.com/vllm-project/vllm/pull/47766",
    looks_like="the size of blocks is left over from the last call of other sizes",
)
def sums_in_blocks_of_the_call_before(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Result:
    now = q.numel() + 7 * k.numel() + q.element_size()
    if now != _calls[0]:
        _calls[:] = now, _calls[0]
    size = 2 + _calls[1] % 13

    def blocked(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        m = largest(s)
        p = torch.exp(s - m[..., None])
        total = sum((p[..., c : c + size].sum(-1) for c in range(0, s.shape[-1], size)), 0 * m)
        o = p.to(dtype).to(s.dtype) @ wide(v)
        return (o / total.masked_fill(total == 0, 1.0)[..., None]).to(dtype), m + total.log()

    return attention(q, k, v, **options, one=lambda *a: one(*a, soften=blocked))
