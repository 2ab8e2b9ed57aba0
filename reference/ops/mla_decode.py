"""One query for each sequence, over a paged cache of latents.

Letters: B batch, H heads, L latent rank, R rotary dims, P pages, M pages of a sequence at most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.precision import check_float, work
from lingspec.reference.rounding import at

__all__ = ["mla_decode"]


@on_one_device
def mla_decode(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, *,
    scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention in the latent space: every row of the cache is a key, its latent part a value.

        s_j = scale (q_latent . latent_j + q_rope . rope_j)        j < length
        lse = log(sum_j exp(s_j)),  o_latent = sum_j round(exp(s_j - lse)) latent_j

    Row j of sequence b is cache[pages[b, j // page], j % page]. A length of 0 gives o = 0 and
    lse = -inf.

    Args:
        q_latent: (B, H, L)        float64, float32, bfloat16 or float16: the query times the key
                                   half of kv_b.
        q_rope:   (B, H, R)        dtype of ``q_latent``, rotated.
        cache:    (P, page, L + R) dtype of ``q_latent``; latent first. Rows behind a sequence's
                                   length are not read.
        pages:    (B, M)           int32 or int64. Entries behind ceil(length / page) are not
                                   followed and may be anything.
        lengths:  (B,)             int32 or int64, from 0 to M * page.
        scale:    A number; that of `mla_attention`, of the dims before they were absorbed.

    Returns:
        o_latent: (B, H, L), the dtype of ``q_latent``: still to be multiplied by the value half
                  of kv_b.
        lse:      (B, H)     float32 (float64 for float64), natural logarithm.

    Precision:
        As `mla_attention`.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        Absorption: arXiv 2405.04434, section 2.1.2 and appendix B. Pages as in vllm @055e47c.
    """
    _check(q_latent, q_rope, cache, pages, lengths)
    L = q_latent.shape[2]
    q = at("operand", work(torch.cat([q_latent, q_rope], dim=-1)))
    o, lse = torch.zeros_like(q_latent), q.new_full(q.shape[:2], -torch.inf)
    for b, length in enumerate(lengths.tolist()):
        if length:
            rows = at("operand", work(_rows(cache, pages[b], length)))  # (length, L + R)
            scores = at("scaled", at("qk", q[b] @ rows.mT) * scale)  # (H, length)
            lse[b] = scores.logsumexp(dim=-1)
            weights = at("weights", (scores - lse[b, :, None]).exp().to(q_latent.dtype))
            o[b] = at("output", (work(weights) @ rows[:, :L]).to(q_latent.dtype))
    return o, lse


def _rows(cache: Tensor, pages: Tensor, length: int) -> Tensor:
    page = cache.shape[1]
    used = pages[: -(-length // page)].long()
    return cache[used].flatten(0, 1)[:length]


def _check(q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor) -> None:
    check_float(q_latent, "q_latent")
    require(q_latent.dim() == 3, "q_latent", "shape", tuple(q_latent.shape), "(B, H, L)")
    B, H, L = q_latent.shape
    ok = q_rope.dim() == 3 and q_rope.shape[:2] == (B, H)
    require(ok, "q_rope", "shape", tuple(q_rope.shape), f"({B}, {H}, R)")
    width = L + q_rope.shape[2]
    ok = cache.dim() == 3 and cache.shape[2] == width
    require(ok, "cache", "shape", tuple(cache.shape), f"(P, page, {width})")
    for name, x in (("q_rope", q_rope), ("cache", cache)):
        require(x.dtype == q_latent.dtype, name, "dtype", x.dtype, f"{q_latent.dtype}, as q_latent")
    for name, index in (("pages", pages), ("lengths", lengths)):
        ok = index.dtype in (torch.int32, torch.int64)
        require(ok, name, "dtype", index.dtype, "int32 or int64")
    ok = pages.dim() == 2 and pages.shape[0] == B
    require(ok, "pages", "shape", tuple(pages.shape), f"({B}, M)")
    require(tuple(lengths.shape) == (B,), "lengths", "shape", tuple(lengths.shape), f"({B},)")
    P, page, most = cache.shape[0], cache.shape[1], pages.shape[1] * cache.shape[1]
    for b, length in enumerate(lengths.tolist()):
        require(0 <= length <= most, f"lengths[{b}]", "value", length, f"from 0 to {most}")
        used = pages[b, : -(-length // page) if page else 0].tolist()
        ok = all(0 <= p < P for p in used)
        require(ok, f"pages[{b}]", "values", used, f"indices below {P}, as far as length {length}")
