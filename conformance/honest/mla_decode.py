"""Right MLA decode in several forms."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.mla_attention import ALL, normalised, one_by_one, online
from lingspec.conformance.mutants._mla import Result, Tensor, decode, merge, rows, scores, wide

OP = "mla_decode"


@honest(OP, profile=ALL, differs="the whole softmax, divided once at the end", nan_safe=True)
def reads_the_rows_of_each_sequence(*call: Any, **options: Any) -> Result:
    return decode(*call, **options)


@honest(OP, profile=ALL, differs="weights normalised before they are rounded")
def normalises_the_weights_of_decode_first(*call: Any, **options: Any) -> Result:
    return decode(*call, **options, soften=normalised)


@honest(OP, profile=ALL, differs="online softmax in base 2, over pages of the table")
def runs_online_over_the_pages(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, *call: Any, **options: Any
) -> Result:
    by_page = partial(online, size=cache.shape[1], base_two=True)
    return decode(q_latent, q_rope, cache, *call, **options, soften=by_page)


@honest(OP, profile=ALL, differs="one row after another from the newest, weights not rounded")
def runs_online_from_the_newest_row(*call: Any, **options: Any) -> Result:
    one = partial(one_by_one, backward=True, rounded=False)
    return decode(*call, **options, soften=one)


@honest(
    OP, profile=ALL, batch_invariant=True,
    differs="scores are summed backwards where queries are not contiguous",
)  # fmt: skip
def sums_what_is_not_contiguous_backwards_in_decode(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, *call: Any, **options: Any
) -> Result:
    def turned(q: Tensor, k: Tensor, scale: float) -> Tensor:
        return scores(q.flip(-1), k.flip(-1), scale)

    form = scores if q_latent.is_contiguous() else turned
    return decode(q_latent, q_rope, cache, *call, **options, scores=form)


@honest(OP, profile=ALL, differs="splits of 32 rows, merged by their lse in float32, as a tree")
def merges_splits_of_32_rows_as_a_tree(*call: Any, **options: Any) -> Result:
    def split(s: Tensor, v: Tensor, dtype: torch.dtype) -> Result:
        parts = []
        for c in range(0, s.shape[-1], 32):
            o, lse = online(s[..., c : c + 32], wide(v[c : c + 32]), s.dtype, size=8)
            parts.append((o, lse))
        while len(parts) > 1:
            pairs = [merge(*parts[n], *parts[n + 1]) for n in range(0, len(parts) - 1, 2)]
            parts = pairs + parts[len(pairs) * 2 :]
        return parts[0][0].to(dtype), parts[0][1]

    return decode(*call, **options, soften=split)


@honest(OP, profile=ALL, differs="latent and rotated scores apart, whole pages read and masked")
def reads_whole_pages_and_masks_them(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor,
    *, scale: float,
) -> Result:  # fmt: skip
    G, L, kept = cache.shape[1], q_latent.shape[2], [0]

    def whole_pages(cache: Tensor, pages: Tensor, length: int) -> Tensor:
        kept[0] = length
        return rows(cache, pages, -(-length // G) * G)

    def apart(q: Tensor, k: Tensor, scale: float) -> Tensor:
        s = scores(q[..., :L], k[:, :L], 1.0) + scores(q[..., L:], k[:, L:], 1.0)
        return (s * scale).masked_fill(torch.arange(len(k)) >= kept[0], -torch.inf)

    return decode(
        q_latent, q_rope, cache, pages, lengths, scale=scale, rows=whole_pages, scores=apart
    )
