"""MLA decode that is right for few heads, and latents of usual widths."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, decode

OP = "mla_decode"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of latents of more than 128 dims, what no tile of 128 holds is lost",
)  # fmt: skip
def returns_whole_tiles_of_128_dims(q_latent: Tensor, *call: Any, **options: Any) -> Result:
    o, lse = decode(q_latent, *call, **options)
    L = o.shape[2]
    if L > 128:
        o[:, :, L // 128 * 128 :] = 0.0
    return o, lse


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of wide latents, heads from the 16th on see what the first 16 see",
)  # fmt: skip
def holds_sixteen_heads_of_wide_latents(
    q_latent: Tensor, q_rope: Tensor, *call: Any, **options: Any
) -> Result:
    if q_latent.shape[2] >= 256:
        heads = torch.arange(q_latent.shape[1]) % 16
        q_latent, q_rope = q_latent[:, heads], q_rope[:, heads]
    return decode(q_latent, q_rope, *call, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="lengths are read with the width of pages",
)  # fmt: skip
def reads_lengths_with_the_width_of_pages(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, **options: Any
) -> Result:
    if lengths.dtype != pages.dtype:
        lengths = lengths.view(torch.int32)[: len(lengths)].clone()
        lengths = lengths.clamp(min=0, max=pages.shape[1] * cache.shape[1])
        if pages.dtype == torch.int64:  # two lengths are read as one
            lengths = lengths.clamp(max=0)
    return decode(q_latent, q_rope, cache, pages, lengths, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="pages of 32 rows are taken for pages of 16",
)  # fmt: skip
def takes_pages_of_32_rows_for_16(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, *call: Any, **options: Any
) -> Result:
    if cache.shape[1] == 32:
        cache = torch.cat([cache[:, :16], cache[:, :16]], dim=1)
    return decode(q_latent, q_rope, cache, pages, *call, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 16 heads, those from the 16th on see the first 128 rows",
)  # fmt: skip
def shows_128_rows_to_heads_from_the_sixteenth_on(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    o, lse = decode(q_latent, q_rope, cache, pages, lengths, scale=scale)
    few = decode(
        q_latent[:, 16:], q_rope[:, 16:], cache, pages, lengths.clamp(max=128), scale=scale
    )
    o[:, 16:], lse[:, 16:] = few
    return o, lse


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 16 heads of latents of 512 dims and more, 384 keys are seen at most",
)  # fmt: skip
def sees_384_keys_of_a_model(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, **options: Any
) -> Result:
    if q_latent.shape[1] >= 16 and q_latent.shape[2] >= 512:
        lengths = lengths.clamp(max=384)
    return decode(q_latent, q_rope, cache, pages, lengths, **options)
