"""Right merging in several forms."""

from __future__ import annotations

import math
from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._mla import Result, Tensor, merge, wide

OP = "merge_attention"
ALL = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@honest(OP, profile=ALL, differs="both exponentials beside the larger mass, one division each")
def divides_each_share_by_the_whole(*call: Any) -> Result:
    return merge(*call)


@honest(OP, profile=ALL, differs="one sigmoid of the difference of the masses")
def takes_a_sigmoid_of_the_difference(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    none = (lse1 == -torch.inf) & (lse2 == -torch.inf)
    first = torch.sigmoid((lse1 - lse2).masked_fill(none, 0.0))
    second = torch.sigmoid((lse2 - lse1).masked_fill(none, 0.0))
    o = first[..., None] * wide(o1) + second[..., None] * wide(o2)
    lse = torch.logaddexp(lse1, lse2)
    return o.masked_fill(none[..., None], 0.0).to(o1.dtype), lse


@honest(
    OP, profile=ALL, nan_safe=True,
    differs="in base 2, the smaller side added to the larger, one division; sides without keys "
    "are left out",
)  # fmt: skip
def adds_the_smaller_side_in_base_two(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    swap = lse2 > lse1
    big, small = torch.where(swap, lse2, lse1), torch.where(swap, lse1, lse2)
    a, b = wide(o1), wide(o2)
    of_big = torch.where(swap[..., None], b, a).masked_fill((big == -torch.inf)[..., None], 0.0)
    of_small = torch.where(swap[..., None], a, b).masked_fill((small == -torch.inf)[..., None], 0.0)
    shift = big.masked_fill(big == -torch.inf, 0.0)
    less = torch.exp2((small - shift) * (1 / math.log(2)))
    o = (of_big + less[..., None] * of_small) / (1 + less)[..., None]
    return o.to(o1.dtype), shift + torch.where(big == -torch.inf, big, torch.log1p(less))


@honest(OP, profile=ALL, differs="both masses turned to base 2 before anything, the result back")
def merges_masses_of_base_two(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    first, second = (lse * (1 / math.log(2)) for lse in (lse1, lse2))
    most = torch.maximum(first, second)
    most = most.masked_fill(most == -torch.inf, 0.0)
    a, b = torch.exp2(first - most), torch.exp2(second - most)
    o = a[..., None] * wide(o1) + b[..., None] * wide(o2)
    o = o / (a + b).masked_fill(a + b == 0, 1.0)[..., None]
    return o.to(o1.dtype), (most + torch.log2(a + b)) * math.log(2)
