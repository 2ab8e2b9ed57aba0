"""Merging that goes wrong just inside what the specification says."""

from __future__ import annotations

import math

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, merge

OP = "merge_attention"


@mutant(
    OP,
    law="authority",
    source="constructed after kernels of two axes before V",
    looks_like="of three axes before V the first is not counted: one batch row is merged",
)
def merges_the_first_of_a_batch_alone(*sides: Tensor) -> Result:
    o, lse = merge(*sides)
    if o.dim() == 4:
        o[1:], lse[1:] = 0.0, 0.0
    return o, lse


@mutant(
    OP,
    law="authority",
    source="constructed after D14, finite stand-ins for -inf",
    looks_like="a mass below -100,000 is taken to mean that there is no key",
)
def takes_masses_below_minus_100000_for_no_key(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    one, two = (m.masked_fill(m < -1e5, -torch.inf) for m in (lse1, lse2))
    return merge(o1, one, o2, two)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="columns are stored in vectors of 16: the last 8 of 8, 24 or 40 are not",
)
def stores_columns_in_vectors_of_sixteen(*sides: Tensor) -> Result:
    o, lse = merge(*sides)
    o[..., o.shape[-1] // 16 * 16 :] = 0.0
    return o, lse


@mutant(
    OP,
    law="authority",
    source="constructed after BLASST https://arxiv.org/abs/2512.12087",
    looks_like="a side with less than a billionth of the mass is left out",
    profile={"float32": "fp32", "bfloat16": "bf16-tc"},
)
def leaves_out_a_side_of_next_to_no_mass(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    few, only = lse2 < lse1 + math.log(1e-9), lse1 < lse2 + math.log(1e-9)
    o = torch.where(few[..., None], o1, torch.where(only[..., None], o2, o))
    return o, lse
