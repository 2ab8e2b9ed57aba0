"""MLA decode with a wrong scale, softmax or part of the row."""

from __future__ import annotations

import math
from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import (
    Result,
    Tensor,
    decode,
    largest,
    rows,
    scores,
    soften,
    wide,
)  # fmt: skip

OP = "mla_decode"


@mutant(
    OP,
    law="authority",
    source="D05 https://github.com/ollama/ollama/pull/13893",
    looks_like="the scale is (L + R)**-0.5, of the absorbed product",
)
def scales_by_the_width_of_the_row(
    q_latent: Tensor, q_rope: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    width = q_latent.shape[2] + q_rope.shape[2]
    return decode(q_latent, q_rope, *call, scale=width**-0.5, **options)


@mutant(
    OP,
    law="authority",
    source="D01 https://github.com/onnxruntime/mobius/pull/548",
    looks_like="the rotated part of the score is left out",
)
def leaves_the_rotated_part_out_of_the_score(
    q_latent: Tensor, q_rope: Tensor, *call: Any, **options: Any
) -> Result:
    return decode(q_latent, 0 * q_rope, *call, **options)


@mutant(
    OP,
    law="authority",
    source="D27 https://github.com/sgl-project/sglang-jax/commit/f6968524",
    looks_like="rows are read with the rotated key first",
)
def reads_rows_with_the_rotated_key_first(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, *call: Any, **options: Any
) -> Result:
    R = q_rope.shape[2]
    return decode(
        q_latent, q_rope, torch.cat([cache[..., R:], cache[..., :R]], -1), *call, **options
    )


@mutant(
    OP,
    law="authority",
    source="constructed after D18 https://github.com/vllm-project/vllm/pull/46952",
    looks_like="of more than 8 heads the second half gets the queries of the first",
)
def folds_sixteen_heads_into_eight(
    q_latent: Tensor, q_rope: Tensor, *call: Any, **options: Any
) -> Result:
    head = torch.arange(q_latent.shape[1])
    head = torch.where(head >= 8, head - 8, head)
    return decode(q_latent[:, head], q_rope[:, head], *call, **options)


@mutant(
    OP,
    law="authority",
    source="D06 https://github.com/vllm-project/vllm/pull/52796",
    looks_like="lse is a logarithm to base 2",
)
def gives_the_lse_of_decode_in_base_two(*call: Any, **options: Any) -> Result:
    o, lse = decode(*call, **options)
    return o, lse / math.log(2.0)


@mutant(
    OP,
    law="authority",
    source="D09 https://github.com/flashinfer-ai/flashinfer/issues/2409",
    looks_like="lse is written as [H, B] and read as [B, H]",
)
def writes_the_lse_of_decode_heads_first(*call: Any, **options: Any) -> Result:
    o, lse = decode(*call, **options)
    return o, lse.T.contiguous().reshape(lse.shape)


@mutant(
    OP,
    law="authority",
    source="D14 https://github.com/flashinfer-ai/flashinfer/issues/4267",
    looks_like="the running maximum starts at -5e4, and logits below it underflow to zeros",
)
def returns_zeros_where_all_logits_are_low(*call: Any, **options: Any) -> Result:
    def floored(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        m = largest(s).clamp(min=-5e4)
        p = torch.exp(s - m[..., None])
        total = p.sum(-1).clamp(min=1e-30)
        return ((p @ wide(v)) / total[..., None]).to(dtype), m + total.log()

    return decode(*call, **options, soften=floored)


@mutant(
    OP,
    law="authority",
    source="D08 https://github.com/sgl-project/sglang/pull/22688",
    looks_like="rows of sequences without keys are not written",
)
def writes_nothing_for_sequences_without_keys(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    o, lse = decode(q_latent, q_rope, cache, pages, lengths, scale=scale)
    written, told = torch.empty_like(o), torch.empty_like(lse)
    written[lengths > 0], told[lengths > 0] = o[lengths > 0], lse[lengths > 0]
    return written, told


@mutant(
    OP,
    law="authority",
    source="constructed after D14 https://github.com/flashinfer-ai/flashinfer/issues/4267",
    looks_like="the lse of a sequence without keys is -1e30, not -inf",
)
def gives_a_finite_lse_where_there_is_no_key(*call: Any, **options: Any) -> Result:
    o, lse = decode(*call, **options)
    return o, lse.clamp(min=-1e30)


@mutant(
    OP,
    law="authority",
    source="constructed after D17 https://github.com/sgl-project/sglang-jax/commit/77d42a78",
    looks_like="parts of 32 rows are stored in bfloat16 before they are merged",
    profile={"bfloat16": "bf16-tc"},
)
def stores_the_parts_of_a_split_in_bfloat16(*call: Any, **options: Any) -> Result:
    def split(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        o, lse = soften(s, v, dtype)
        parts = [soften(s[..., c : c + 32], v[c : c + 32], dtype) for c in range(0, len(v), 32)]
        shares = [torch.exp(part - lse)[..., None].bfloat16().float() for _, part in parts]
        o = sum((a * wide(x) for a, (x, _) in zip(shares, parts, strict=True)), 0 * wide(o))
        return o.to(dtype), lse

    return decode(*call, **options, soften=split)


@mutant(
    OP,
    law="authority",
    source="constructed after D06 https://github.com/vllm-project/vllm/pull/47079",
    looks_like="parts of 64 rows are averaged, as if each had the same mass",
)
def averages_the_parts_of_a_split(*call: Any, **options: Any) -> Result:
    def split(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        parts = [soften(s[..., c : c + 64], v[c : c + 64], dtype) for c in range(0, len(v), 64)]
        o = torch.stack([wide(x) for x, _ in parts]).mean(0).to(dtype)
        return o, torch.stack([lse for _, lse in parts]).logsumexp(0)

    return decode(*call, **options, soften=split)


@mutant(
    OP,
    law="authority",
    source="constructed after A43 https://github.com/vllm-project/vllm/issues/51848",
    looks_like="the last row, that of the token itself, is not seen",
)
def does_not_see_the_newest_row(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    seen = torch.where(lengths > 1, lengths - 1, lengths)
    return decode(q_latent, q_rope, cache, pages, seen, scale=scale)


@mutant(
    OP,
    law="authority",
    source="C26 https://github.com/vllm-project/vllm/pull/27753",
    looks_like="masked rows are multiplied by 0, after exp of whatever they hold",
)
def multiplies_unused_rows_by_zero(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    G, kept = cache.shape[1], {}

    def whole_pages(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        kept["length"] = length
        return rows(cache, pages, -(-length // G) * G)

    def multiplied(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        inside = (torch.arange(len(v)) < kept["length"]).to(s.dtype)
        m = largest(s[..., : kept["length"]])
        p = torch.exp(s - m[..., None]) * inside
        total = p.sum(-1)
        return ((p @ wide(v)) / total[..., None]).to(dtype), m + total.log()

    return decode(
        q_latent, q_rope, cache, pages, lengths, scale=scale, rows=whole_pages, soften=multiplied
    )


@mutant(
    OP,
    law="authority",
    profile={"bfloat16": "bf16-tc"},
    source="constructed after D17 https://github.com/sgl-project/sglang-jax/commit/77d42a78",
    looks_like="the latent and the rotated part of the score are each rounded to bfloat16",
)
def rounds_both_parts_of_the_score(q_latent: Tensor, *call: Any, **options: Any) -> Result:
    L = q_latent.shape[2]

    def narrow(q: Tensor, k: Tensor, scale: float) -> Tensor:
        latent = scores(q[..., :L], k[..., :L], 1.0).bfloat16()
        return (latent + scores(q[..., L:], k[..., L:], 1.0).bfloat16()).float() * scale

    return decode(q_latent, *call, **options, scores=narrow)
