"""Merging that is right for values of usual widths and few rows."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, merge

OP = "merge_attention"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 128 values, what no tile of 128 holds is that of the first side",
)  # fmt: skip
def merges_whole_tiles_of_128_values(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    V = o.shape[-1]
    if V > 128:
        o[..., V // 128 * 128 :] = o1[..., V // 128 * 128 :]
    return o, lse


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="rows from the 8192nd on are those of the first side",
)  # fmt: skip
def merges_8192_rows(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    o.view(-1, o.shape[-1])[8192:] = o1.reshape(-1, o.shape[-1])[8192:]
    return o, lse


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 16 heads of 128 values, tokens from the 32nd on are those of the first side",
)  # fmt: skip
def merges_32_tokens_of_a_model(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    if o.dim() == 4 and o.shape[2] >= 16 and o.shape[3] >= 128:
        o[:, 32:] = o1[:, 32:]
    return o, lse
