"""Another formulation of softmax attention over expanded keys, held to the first by tests."""

from __future__ import annotations

from torch import Tensor

from lingspec.reference.ops.mla_attention import mla_attention
from lingspec.reference.rounding import at

__all__ = ["mla_attention_folded"]


def mla_attention_folded(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`mla_attention` with the scale in the query: (scale q) k^T.

    Arguments, shapes and errors are those of `mla_attention`. The scaled query has the dtype of
    ``q``; in 16 bits it is rounded (point ``query``), and every score of its row errs by that.
    """
    folded = at("query", q * scale)
    return mla_attention(
        folded, k, v, scale=1.0, cu_seqlens=cu_seqlens, cu_seqlens_k=cu_seqlens_k
    )  # fmt: skip
