"""Another formulation of attention over a paged cache of latents, held to the first by tests."""

from __future__ import annotations

from torch import Tensor

from lingspec.reference.ops.mla_decode import mla_decode
from lingspec.reference.rounding import at

__all__ = ["mla_decode_folded"]


def mla_decode_folded(
    q_latent: Tensor,
    q_rope: Tensor,
    cache: Tensor,
    pages: Tensor,
    lengths: Tensor,
    *,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """`mla_decode` with the scale in both parts of the query.

    Arguments, shapes and errors are those of `mla_decode`. The scaled query has the dtype of
    ``q_latent``; in 16 bits it is rounded (point ``query``), and every score of its row errs by
    that.
    """
    latent, rope = (at("query", x * scale) for x in (q_latent, q_rope))
    return mla_decode(latent, rope, cache, pages, lengths, scale=1.0)
