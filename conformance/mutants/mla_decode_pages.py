"""MLA decode that mixes up pages, rows and lengths."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, decode, rows

OP = "mla_decode"


@mutant(
    OP,
    law="authority",
    source="constructed after D30 https://github.com/vllm-project/vllm/issues/1486",
    looks_like="rows are taken from the cache in order, whatever the table says",
)
def ignores_the_table_of_pages(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, *call: Any, **options: Any
) -> Result:
    B, M = pages.shape
    order = torch.arange(B * M).reshape(B, M) % max(len(cache), 1)
    return decode(q_latent, q_rope, cache, order, *call, **options)


@mutant(
    OP,
    law="authority",
    source="D30 https://github.com/vllm-project/vllm/issues/53982",
    looks_like="a length that ends with a page reads one row more",
)
def reads_a_row_past_the_end_of_a_page(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    G = cache.shape[1]
    ends = (lengths % G == 0) & (lengths > 0) & (lengths < pages.shape[1] * G)
    inside = pages.clamp(min=0, max=len(cache) - 1) if len(cache) else pages
    return decode(q_latent, q_rope, cache, inside, lengths + ends, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed after C28 https://github.com/vllm-project/vllm/pull/27547",
    looks_like="pages are taken to have 64 rows where they have 48",
)
def takes_pages_of_48_rows_for_64(*call: Any, **options: Any) -> Result:
    def logical(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        if cache.shape[1] != 48:
            return rows(cache, pages, length)
        row = torch.arange(length)
        flat = cache.flatten(0, 1)
        return flat[(pages[row // 64].long() * 48 + row % 64).clamp(max=len(flat) - 1)]

    return decode(*call, **options, rows=logical)


@mutant(
    OP,
    law="authority",
    source="C23 https://github.com/Blaizzy/mlx-vlm/pull/1946",
    looks_like="all sequences are read as far as the longest",
)
def reads_every_sequence_as_far_as_the_longest(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    longest = torch.full_like(lengths, int(lengths.max()) if len(lengths) else 0)
    inside = pages.clamp(min=0, max=len(cache) - 1) if len(cache) else pages
    return decode(q_latent, q_rope, cache, inside, longest, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed after D30 https://github.com/gittensor-ai-lab/sparkinfer/pull/146",
    looks_like="a page that two sequences share is read by the first alone",
)
def reads_a_shared_page_once(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    G, taken = cache.shape[1], set[int]()

    def once(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        used = pages[: -(-length // G)].tolist()
        found = rows(cache, pages, length).clone()
        for i, page in enumerate(used):
            if page in taken:
                found[i * G : (i + 1) * G] = 0
        taken.update(used)
        return found

    return decode(q_latent, q_rope, cache, pages, lengths, scale=scale, rows=once)


@mutant(
    OP,
    law="authority",
    source="constructed after D30 https://github.com/sgl-project/sglang/issues/39288",
    looks_like="every entry of the table is followed, also those behind the length",
)
def follows_every_entry_of_the_table(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, *call: Any, **options: Any
) -> Result:
    cache[pages.long()]  # loads a page ahead
    return decode(q_latent, q_rope, cache, pages, *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="tables of 64-bit pages are read as 32-bit ones",
)
def reads_64_bit_pages_as_32_bit(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, *call: Any, **options: Any
) -> Result:
    B, M = pages.shape
    halves = pages.contiguous().view(torch.int32).reshape(B, -1)[:, :M].clamp(min=0)
    return decode(q_latent, q_rope, cache, halves, *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed after C28 https://github.com/vllm-project/vllm-ascend/pull/15408",
    looks_like="the table is read with rows of as many entries as the longest sequence has pages",
)
def reads_the_table_with_a_shorter_row(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    longest = int(lengths.max()) if len(lengths) else 0
    width = -(-longest // cache.shape[1])
    table = pages.reshape(-1)[: len(lengths) * width].reshape(len(lengths), width)
    table = table.clamp(min=0, max=max(len(cache) - 1, 0))
    return decode(q_latent, q_rope, cache, table, lengths, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed after D08 https://github.com/flashinfer-ai/flashinfer/issues/3047",
    looks_like="a sequence of no rows ends the batch",
)
def stops_at_the_first_empty_sequence(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    going = (lengths == 0).cumsum(0) == 0
    return decode(q_latent, q_rope, cache, pages, lengths * going, scale=scale)
