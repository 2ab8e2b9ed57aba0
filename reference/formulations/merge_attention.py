"""Another formulation of the merge of two attentions, held to the first by tests."""

from __future__ import annotations

import math

from torch import Tensor

from lingspec.reference.ops.merge_attention import merge_attention

__all__ = ["merge_attention_base_two"]


def merge_attention_base_two(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> tuple[Tensor, Tensor]:
    """`merge_attention` with logarithms that come and go through base 2, where kernels hold them.

    Arguments, shapes, dtypes, precision and errors are those of `merge_attention`. Each logarithm
    is rounded once more: weights err by that much of it, not of a difference.
    """
    first, second = (lse * math.log2(math.e) * math.log(2) for lse in (lse1, lse2))
    return merge_attention(o1, first, o2, second)
