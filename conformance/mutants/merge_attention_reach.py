"""Merging that is right in a single look: each of these breaks one law alone."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, merge

OP = "merge_attention"


@mutant(
    OP,
    law="permutation",
    source="constructed after H13 https://github.com/vllm-project/vllm/pull/46952",
    looks_like="says batch_invariant=True, but a batch of one is divided at another place",
    batch_invariant=True,
)
def divides_a_batch_of_one_elsewhere(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    if o1.shape[0] == 1 and o1.dim() == 4:
        lse = torch.logaddexp(lse1, lse2) + 0.0
        lse = lse * (1 + 2.0**-23)
    return o, lse


_kept: dict[tuple[Any, ...], int] = {}


@mutant(
    OP,
    law="sharding",
    source="constructed after D18 https://github.com/vllm-project/vllm/pull/46952",
    looks_like="the number of heads is kept from the first call of these sizes",
)
def keeps_the_heads_of_the_first_merge(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    if o1.dim() != 4:
        return merge(o1, lse1, o2, lse2)
    B, T, H, V = o1.shape
    key = (B, T, V, o1.dtype, round(float(lse1[:, :, :1].abs().clamp(max=1.0).sum()), 3))
    kept = _kept.setdefault(key, H)
    o, lse = merge(o1, lse1, o2, lse2)
    o[:, :, kept:] = 0.0
    return o, lse


@mutant(
    OP,
    law="determinism",
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="lanes of a buffer that nobody wrote are added with a weight of next to nothing",
    profile={"float32": "fp32"},
)
def adds_a_buffer_that_nobody_wrote(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    return o * (1 + 3e-12 * torch.empty(o.shape, dtype=o.dtype).nan_to_num(0.0)), lse


_shares: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}


@mutant(
    OP,
    law="invariance",
    source="constructed after D11 https://github.com/vllm-project/vllm/pull/47766",
    looks_like="masses are kept under a checksum in which both sides are alike",
)
def keeps_masses_under_a_checksum(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    both = lse1.double().clamp(min=-1e6) + lse2.double().clamp(min=-1e6)
    of_heads = tuple(both.reshape(-1)[:64].round(decimals=6).tolist())
    kept = _shares.setdefault((o1.shape, o1.dtype, of_heads), (lse1.clone(), lse2.clone()))
    return merge(o1, kept[0], o2, kept[1])


@mutant(
    OP,
    law="identities",
    source="constructed after D20 https://github.com/vllm-project/vllm/pull/44630",
    looks_like="a side merged with itself is taken to be merged already",
)
def takes_equal_sides_for_one(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    if torch.equal(o1, o2) and torch.equal(lse1, lse2):
        lse2 = torch.full_like(lse2, -torch.inf)
    return merge(o1, lse1, o2, lse2)


@mutant(
    OP,
    law="additivity",
    source="constructed",
    looks_like="where two of five numbers are 0 a sparse path is taken, which has no first token",
)
def merges_sparse_sides_without_the_first_token(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    zero = o1 == 0
    o, lse = merge(o1, lse1, o2, lse2)
    sparse = o1.numel() > 64 and float(zero.float().mean()) > 0.4 and not bool(zero.all(-1).any())
    if sparse and o1.dim() == 4:
        o[:, 0] = 0.0
    return o, lse


_calls = [0, 0]  # the sizes of this call, and of the last one of other sizes


@mutant(
    OP,
    law="shapes",
    source="constructed after C30 https://github.com/sgl-project/sglang-jax/pull/928",
    looks_like="which of two formulas is taken is left over from the last call of other sizes",
)
def takes_the_formula_of_the_call_before(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    now = o1.numel() // 8 + 31 * o1.element_size()
    if now != _calls[0]:
        _calls[:] = now, _calls[0]
    o, lse = merge(o1, lse1, o2, lse2)
    return o, lse * (1 + 2.0**-23) if _calls[1] % 3 == 0 else lse
