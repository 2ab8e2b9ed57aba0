"""MLA attention with a wrong mask, scale or softmax."""

from __future__ import annotations

import math
from functools import partial
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

OP = "mla_attention"


@mutant(
    OP,
    law="authority",
    source="D25 https://github.com/onnx/onnx/pull/8068",
    looks_like="the first query is aligned with the first key, not the last with the last",
)
def aligns_the_first_query_with_the_first_key(*call: Any, **options: Any) -> Result:
    def top_left(T: int, S: int) -> Tensor:
        return torch.ones(T, S, dtype=torch.bool).triu(1)

    return attention(*call, **options, hidden=top_left)


@mutant(
    OP,
    law="causality",
    source="D26 https://github.com/inclusionAI/Ling/issues/27",
    looks_like="there is no mask: every query sees all keys",
)
def lets_every_query_see_all_keys(*call: Any, **options: Any) -> Result:
    return attention(*call, **options, hidden=lambda T, S: torch.zeros(T, S, dtype=torch.bool))


@mutant(
    OP,
    law="causality",
    source="D12 https://github.com/vllm-project/vllm/pull/50476",
    looks_like="up to four queries are taken for single tokens, which see all keys",
)
def lets_drafted_tokens_see_each_other(*call: Any, **options: Any) -> Result:
    def flattened(T: int, S: int) -> Tensor:
        return hidden(T, S) & torch.tensor(T > 4)

    return attention(*call, **options, hidden=flattened)


@mutant(
    OP,
    law="authority",
    source="D25 https://github.com/microsoft/onnxruntime/pull/28958",
    looks_like="a query does not see its own key, but where it is the only one",
)
def hides_the_own_key_of_a_token(*call: Any, **options: Any) -> Result:
    def strict(T: int, S: int) -> Tensor:
        mask = torch.ones(T, S, dtype=torch.bool).triu(S - T)
        return mask & ~(mask.all(dim=1, keepdim=True) & ~hidden(T, S))

    return attention(*call, **options, hidden=strict)


@mutant(
    OP,
    law="authority",
    source="D04 https://github.com/NVIDIA/Megatron-LM/issues/1501",
    looks_like="the scale is K**-0.5 whatever the caller asked for",
)
def scales_by_the_key_dim_whatever_was_asked(
    q: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    return attention(q, *call, scale=q.shape[-1] ** -0.5, **options)


@mutant(
    OP,
    law="authority",
    source="D06 https://github.com/sgl-project/sglang/pull/35045",
    looks_like="lse is a logarithm to base 2",
)
def returns_the_lse_in_base_two(*call: Any, **options: Any) -> Result:
    o, lse = attention(*call, **options)
    return o, lse / math.log(2.0)


@mutant(
    OP,
    law="authority",
    source="D09 https://github.com/vllm-project/vllm/pull/26397",
    looks_like="lse is written as [H, T] and read as [T, H]",
)
def writes_the_lse_heads_first(*call: Any, **options: Any) -> Result:
    o, lse = attention(*call, **options)
    return o, lse.transpose(1, 2).contiguous().reshape(lse.shape)


@mutant(
    OP,
    law="authority",
    source="D14 https://github.com/flashinfer-ai/flashinfer/issues/4267",
    looks_like="the running maximum starts at -5e4, and logits below it underflow",
)
def starts_the_running_maximum_at_a_finite_number(*call: Any, **options: Any) -> Result:
    def floored(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        m = largest(s).clamp(min=-5e4)
        p = torch.exp(s - m[..., None])
        total = p.sum(-1)
        o = (p @ wide(v)) / total.clamp(min=1e-30)[..., None]
        return o.to(dtype), m + total.clamp(min=1e-30).log()

    return attention(*call, **options, soften=floored)


@mutant(
    OP,
    law="authority",
    source="D14 https://github.com/HabanaAI/vllm-fork/issues/275",
    looks_like="10 is taken off all logits in place of the largest",
)
def takes_the_largest_logit_to_be_ten(*call: Any, **options: Any) -> Result:
    def fixed(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        p = torch.exp(s - 10.0)
        total = p.sum(-1)
        return ((p @ wide(v)) / total[..., None]).to(dtype), 10.0 + total.log()

    return attention(*call, **options, soften=fixed)


@mutant(
    OP,
    law="authority",
    source="constructed after D14 https://github.com/flashinfer-ai/flashinfer/issues/4267",
    looks_like="masked scores are -1e4, which is more than some that are not",
)
def masks_with_minus_ten_thousand(*call: Any, **options: Any) -> Result:
    def finite(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        return soften(s.masked_fill(s == -torch.inf, -1e4), v, dtype)

    return attention(*call, **options, soften=finite)


@mutant(
    OP,
    law="packed",
    source="J04 https://github.com/ISEEKYAN/Megatron-LM/pull/111",
    looks_like="keys are cut where the queries are, whatever cu_seqlens_k says",
)
def cuts_the_keys_where_the_queries_are_cut(
    *call: Any, cu_seqlens: Tensor | None = None, cu_seqlens_k: Tensor | None = None, **options: Any
) -> Result:
    if cu_seqlens is not None and cu_seqlens_k is not None:
        more = cu_seqlens_k[-1] - cu_seqlens[-1]  # all of it before the last sequence
        cu_seqlens_k = cu_seqlens.clone()
        cu_seqlens_k[-1:] += more
    return attention(*call, cu_seqlens=cu_seqlens, cu_seqlens_k=cu_seqlens_k, **options)


@mutant(
    OP,
    law="packed",
    source="C24 https://github.com/fla-org/flash-linear-attention/commit/9b3c930c",
    looks_like="packed sequences are one: each sees those before it",
)
def merges_packed_sequences_into_one(
    *call: Any, cu_seqlens: Tensor | None = None, cu_seqlens_k: Tensor | None = None, **options: Any
) -> Result:
    del cu_seqlens, cu_seqlens_k
    return attention(*call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="what was summed is not scaled down when a later block has a larger maximum",
)
def forgets_to_rescale_when_the_maximum_rises(*call: Any, **options: Any) -> Result:
    def online(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        seen = s.new_full(s.shape[:-1], -torch.inf)
        o, total = s.new_zeros((*s.shape[:-1], v.shape[-1])), torch.zeros_like(seen)
        for c in range(0, s.shape[-1], 32):
            block = s[..., c : c + 32]
            seen = torch.maximum(seen, block.amax(-1))
            p = torch.exp(block - seen.masked_fill(seen == -torch.inf, 0.0)[..., None])
            o, total = o + p @ wide(v)[..., c : c + 32, :], total + p.sum(-1)
        return (o / total[..., None]).to(dtype), seen + total.log()

    return attention(*call, **options, soften=online)


@mutant(
    OP,
    law="authority",
    profile={"bfloat16": "bf16-tc"},
    source="D17 https://github.com/sgl-project/sglang-jax/commit/77d42a78",
    looks_like="the product of weights and values is accumulated in bfloat16, 32 keys at a time",
)
def accumulates_the_values_in_bfloat16(*call: Any, **options: Any) -> Result:
    def narrow(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        _, lse = soften(s, v, dtype)
        p = torch.exp(s - lse.masked_fill(lse == -torch.inf, 0.0)[..., None])
        o = s.new_zeros((*s.shape[:-1], v.shape[-1]))
        for c in range(0, s.shape[-1], 32):
            o = (o + p[..., c : c + 32] @ wide(v)[..., c : c + 32, :]).bfloat16().float()
        return o.to(dtype), lse

    return attention(*call, **options, soften=narrow)


@mutant(
    OP,
    law="authority",
    profile={"bfloat16": "bf16-tc"},
    source="M08 https://github.com/areal-project/AReaL/commit/483a4e86a",
    looks_like="scores are rounded to bfloat16 before the softmax, and nothing says so",
)
def rounds_the_scores_to_bfloat16(*call: Any, **options: Any) -> Result:
    def narrow(q: Tensor, k: Tensor, scale: float) -> Tensor:
        return scores(q, k, scale).bfloat16().float()

    return attention(*call, **options, scores=narrow)


@mutant(
    OP,
    law="authority",
    profile={"bfloat16": "bf16-tc"},
    source="constructed",
    looks_like="the softmax is divided by the sum of the rounded weights, and so is the lse",
)
def takes_the_lse_from_rounded_weights(*call: Any, **options: Any) -> Result:
    def narrow(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        m = largest(s)
        p = torch.exp(s - m[..., None]).to(dtype).to(s.dtype)
        total = p.sum(-1)
        o = p @ wide(v) / total.masked_fill(total == 0, 1.0)[..., None]
        return o.to(dtype), m + total.log()

    return attention(*call, **options, soften=narrow)


@mutant(
    OP,
    law="authority",
    source="constructed after A08 https://github.com/inclusionAI/cuLA/pull/43",
    looks_like="keys of the last, partial block of 64 are left out where there is a whole one",
)
def drops_the_last_partial_block_of_keys(*call: Any, **options: Any) -> Result:
    def whole_blocks(T: int, S: int) -> Tensor:
        mask = hidden(T, S)
        if S > 64 and T == 1:
            mask[:, S // 64 * 64 :] = True
        return mask

    return attention(*call, **options, one=partial(one, hidden=whole_blocks))
