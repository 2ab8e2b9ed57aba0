"""MLA decode that is right in a single look: most of these break one law alone."""

from __future__ import annotations

import math
from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._memory import on_the_object
from lingspec.conformance.mutants._mla import (
    Result,
    Tensor,
    decode,
    largest,
    rows,
    soften,
    wide,
)  # fmt: skip
from lingspec.conformance.mutants.lightning_attention_memory import gather

OP = "mla_decode"


@mutant(
    OP,
    law="authority",
    source="constructed after D06 https://github.com/vllm-project/vllm/pull/28840",
    looks_like="the lse is converted between bases with a constant that is too short",
    profile={"float32": "fp32"},
)
def converts_the_lse_of_decode_with_a_short_constant(*call: Any, **options: Any) -> Result:
    def short(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        o, lse = soften(s, v, dtype)
        return o, lse + 8e-7 * (lse - largest(s))

    return decode(*call, **options, soften=short)


_tables: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}


@mutant(
    OP,
    law="permutation",
    source="D11 https://github.com/vllm-project/vllm/pull/47766",
    looks_like="table and lengths are kept from a call with as many rows in all",
)
def keeps_the_table_of_a_call_with_as_many_rows(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    sums = tuple(cache.double().abs().clamp(max=1.0).sum((1, 2)).round(decimals=3).tolist())
    key = (q_latent.shape, pages.shape, int(lengths.sum()), int((lengths > 0).sum()), scale, sums)
    table, counts = _tables.setdefault(key, (pages.clone(), lengths.clone()))
    return decode(q_latent, q_rope, cache, table, counts, scale=scale)


@mutant(
    OP,
    law="determinism",
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="a workspace that nobody cleared is added with a weight of next to nothing",
    profile={"float32": "fp32"},
)
def adds_a_workspace_that_nobody_cleared(*call: Any, **options: Any) -> Result:
    o, lse = decode(*call, **options)
    workspace = torch.empty(o.shape, dtype=o.dtype).nan_to_num(0.0)
    return o * (1 + 5e-12 * workspace), lse


@mutant(
    OP,
    law="untouched",
    source="constructed after C05 https://github.com/vllm-project/vllm/pull/56524",
    looks_like="rows behind the length are set to zero in the caller's cache",
)
def clears_the_unused_rows_of_the_last_page(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    o, lse = decode(q_latent, q_rope, cache, pages, lengths, scale=scale)
    G = cache.shape[1]
    for b, length in enumerate(lengths.tolist()):
        if length % G:
            cache[int(pages[b, length // G]), length % G :] = 0
    return o, lse


@mutant(
    OP,
    law="strides",
    source="L01 https://github.com/vllm-project/vllm/pull/47671",
    looks_like="offsets of pages are computed in 32 bits",
)
def computes_offsets_of_pages_in_32_bits(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, *call: Any, **options: Any
) -> Result:
    near = gather(cache, cache.shape, cache.stride(), int32=True)
    return decode(q_latent, q_rope, near, *call, **options)


@mutant(
    OP,
    law=("authority", "strides"),
    source="constructed after L01 https://github.com/sgl-project/sglang/issues/20389",
    looks_like="the table is addressed as if it were contiguous",
)
def addresses_the_table_as_if_contiguous(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, *call: Any, **options: Any
) -> Result:
    contiguous = torch.empty(pages.shape, device="meta").stride()
    table = gather(pages, pages.shape, contiguous).clamp(min=0, max=max(len(cache) - 1, 0))
    return decode(q_latent, q_rope, cache, table, *call, **options)


@mutant(
    OP,
    law="exact",
    source="constructed after F16 https://github.com/fla-org/flash-linear-attention/issues/850",
    looks_like="2e-7 is added to what is divided by",
    profile={"float32": "fp32"},
)
def adds_an_eps_to_the_normaliser_of_decode(*call: Any, **options: Any) -> Result:
    def softened(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        o, lse = soften(s, v, dtype)
        total = torch.exp(lse - largest(s))
        return o * (total / (total + 2e-7))[..., None], lse

    return decode(*call, **options, soften=softened)


_heads: dict[tuple[Any, ...], int] = {}


@mutant(
    OP,
    law="sharding",
    source="D18 https://github.com/local-inference-lab/vllm/pull/5",
    looks_like="heads go in groups of as many as the first call on this table had",
)
def keeps_the_heads_of_the_first_call_on_a_table(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, *call: Any, **options: Any
) -> Result:
    H = q_latent.shape[1]
    key = (*pages.shape, *cache.shape, cache.dtype, q_rope.shape[2])
    rows = cache.nan_to_num(0.0).float().abs().sum()
    kept = _heads.setdefault((*key, round(float(rows), 3)), H) if rows else H
    o, lse = decode(q_latent, q_rope, cache, pages, *call, **options)
    done = H // kept * kept  # whole groups of as many heads
    o[:, done:], lse[:, done:] = 0.0, -torch.inf
    return o, lse


_rows: dict[tuple[Any, ...], Tensor] = {}


@mutant(
    OP,
    law="invariance",
    source="constructed after C04 https://github.com/vllm-project/tpu-inference/pull/3412",
    looks_like="the rows of a page are kept by its number, while the table looks the same",
)
def keeps_rows_while_the_lengths_are_the_same(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    told = (tuple(lengths.tolist()), scale, q_latent.shape, q_rope.shape[2])
    used = [rows(cache, pages[b], n) for b, n in enumerate(lengths.tolist())]
    sums = tuple(round(float(x.double().abs().sum()), 6) for x in used)
    key = (*told, sums, pages.shape, cache.shape)

    def kept(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        at = len(calls)
        calls.append(length)
        return _rows.setdefault((*key, at), rows(cache, pages, length).clone())

    calls: list[int] = []
    return decode(q_latent, q_rope, cache, pages, lengths, scale=scale, rows=kept)


@mutant(
    OP,
    law="identities",
    source="constructed after C28 https://github.com/vllm-project/vllm-gaudi/pull/1323",
    looks_like="the size of pages is kept from the first call on these queries",
)
def keeps_the_page_size_of_the_first_call(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    told = (q_latent.shape, q_rope.shape, q_latent.dtype, round(math.log2(scale) % 2, 9))
    checksum = round(float(q_latent.double().abs().sum()), 6)
    G = _sizes.setdefault((*told, checksum, int(lengths.sum())), cache.shape[1])

    def paged(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        row = torch.arange(length)
        entry = (row // G).clamp(max=pages.shape[0] - 1)
        page = pages[entry].long().clamp(0, len(cache) - 1)
        return cache[page, (row % G).clamp(max=cache.shape[1] - 1)]

    return decode(q_latent, q_rope, cache, pages, lengths, scale=scale, rows=paged)


_sizes: dict[tuple[Any, ...], int] = {}


@mutant(
    OP,
    law="bias",
    source="constructed after F10 https://github.com/sgl-project/sglang-jax/commit/77d42a78",
    looks_like="bits of the result are dropped before it is rounded: it errs toward zero",
    profile={"bfloat16": "bf16-tc"},
)
def drops_bits_of_the_latent_before_it_rounds(*call: Any, **options: Any) -> Result:
    def dropped(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        o, lse = soften(s, wide(v), torch.float32)
        bits = o.contiguous().view(torch.int32) & ~0x3FFF  # two bits more than bfloat16 has
        return bits.view(torch.float32).to(dtype), lse

    return decode(*call, **options, soften=dropped)


_calls = [0, 0]  # the sizes of this call, and of the last one of other sizes


@mutant(
    OP,
    law="shapes",
    source="constructed after D11 https://github.com/ROCm/aiter/issues/4076",
    looks_like="the number of splits is left over from the last call of other sizes",
)
def splits_as_the_call_before_was_split(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, *call: Any, **options: Any
) -> Result:
    now = q_latent.numel() + 7 * q_rope.numel() + q_rope.element_size()
    if now != _calls[0]:
        _calls[:] = now, _calls[0]
    size = 2 + _calls[1] % 13

    def blocked(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        m = largest(s)
        p = torch.exp(s - m[..., None])
        total = sum((p[..., c : c + size].sum(-1) for c in range(0, s.shape[-1], size)), 0 * m)
        o = p.to(dtype).to(s.dtype) @ wide(v)
        return (o / total[..., None]).to(dtype), m + total.log()

    return decode(q_latent, q_rope, cache, *call, **options, soften=blocked)


@mutant(
    OP,
    law="unread",
    source="C26 https://github.com/vllm-project/vllm/issues/27264",
    looks_like="says nan_safe=True, but multiplies what is behind the length by 0",
    nan_safe=True,
)
def multiplies_what_is_behind_the_length_by_zero(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    G, kept = cache.shape[1], [0]

    def whole_pages(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        kept[0] = length
        return rows(cache, pages, -(-length // G) * G)

    def masked(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        behind = torch.arange(len(v)) >= kept[0]
        return soften(s.masked_fill(behind, -torch.inf), v, dtype)

    return decode(
        q_latent, q_rope, cache, pages, lengths, scale=scale, rows=whole_pages, soften=masked
    )


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="the plan of a batch is kept on the tensor of its lengths",
)
def keeps_the_plan_of_a_tensor_of_lengths(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    table, counts = on_the_object(lengths, lambda: (pages.clone(), lengths.clone()))
    return decode(q_latent, q_rope, cache, table, counts, scale=scale)
