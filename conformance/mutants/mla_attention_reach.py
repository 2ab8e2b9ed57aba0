"""MLA attention that is right in a single look: most of these break one law alone."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._memory import on_the_object
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
    now = 8 * q.numel() + q.element_size()
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


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="where sequences end is kept on the tensor that says it",
)
def keeps_the_ends_of_a_tensor_of_queries(*call: Any, **options: Any) -> Result:
    ends = options.get("cu_seqlens")
    first = None if ends is None else on_the_object(ends, ends.clone)
    return attention(*call, **(options | {"cu_seqlens": first}))
