"""Decoding from pages that goes wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, decode, rows, sparing

OP = "mla_decode"


@mutant(
    OP,
    law="authority",
    source="constructed after D16 https://github.com/sgl-project/sglang/pull/15522",
    looks_like="the last 8 dims of a latent of 8, 24 or 40 are left out of the score",
)
def scores_latents_in_vectors_of_sixteen(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, *,
    scale: float,
) -> Result:  # fmt: skip
    read = torch.arange(q_latent.shape[-1]) < q_latent.shape[-1] // 16 * 16
    return decode(q_latent * read, q_rope, cache, pages, lengths, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed after the null block of engines",
    looks_like="page 0 is kept for padding: rows in it are not read",
)
def keeps_the_first_page_for_padding(*call: Tensor, scale: float) -> Result:
    def others(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        G = cache.shape[1]
        page = pages[: -(-length // G)].repeat_interleave(G)[:length]
        return rows(cache, pages, length)[page != 0]

    return decode(*call, scale=scale, rows=others)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="a table holds one row less than its pages: the last of the longest is not read",
)
def holds_one_row_less_than_its_pages(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, *,
    scale: float,
) -> Result:  # fmt: skip
    most = max(cache.shape[1] * pages.shape[1] - 1, 0)
    return decode(q_latent, q_rope, cache, pages, lengths.clamp(max=most), scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scale of a step is never taken below a hundredth",
)
def never_takes_the_scale_of_a_step_below_a_hundredth(*call: Tensor, scale: float) -> Result:
    return decode(*call, scale=max(scale, 0.01))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the last 8 of 8 or 24 rotated dims are left out of the score",
)
def scores_rotated_dims_in_vectors_of_sixteen(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, *,
    scale: float,
) -> Result:  # fmt: skip
    read = torch.arange(q_rope.shape[-1]) < q_rope.shape[-1] // 16 * 16
    return decode(q_latent, q_rope * read, cache, pages, lengths, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the cache ends one page early: the last page is read as the one before it",
)
def ends_the_cache_one_page_early(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, *,
    scale: float,
) -> Result:  # fmt: skip
    return decode(q_latent, q_rope, cache, pages.clamp(max=len(cache) - 2), lengths, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed after BLASST https://arxiv.org/abs/2512.12087",
    looks_like="a key is skipped if it weighs less than a billionth of the best one before",
    profile={"float32": "fp32", "bfloat16": "bf16-tc"},
)
def skips_keys_that_weigh_next_to_nothing(*call: Any, **options: Any) -> Result:
    return decode(*call, **options, soften=sparing(1, 1e-9))
