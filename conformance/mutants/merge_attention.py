"""Merging of two attentions with wrong shares, masses or memory."""

from __future__ import annotations

import math
from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, merge, shares, wide
from lingspec.conformance.mutants.lightning_attention_memory import gather

OP = "merge_attention"


@mutant(
    OP,
    law="authority",
    source="D06 https://github.com/sgl-project/sglang/issues/40903",
    looks_like="the masses are taken for logarithms to base 2",
)
def takes_the_masses_to_be_in_base_two(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    o, lse = merge(o1, lse1 * math.log(2), o2, lse2 * math.log(2))
    return o, lse / math.log(2)


@mutant(
    OP,
    law="authority",
    source="D09 https://github.com/vllm-project/vllm/issues/26042",
    looks_like="lse2 is read as [H, T], and written as [T, H]",
)
def reads_the_second_mass_heads_first(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    turned = lse2.mT.contiguous().reshape(lse2.shape) if lse2.dim() > 1 else lse2
    return merge(o1, lse1, o2, turned)


@mutant(
    OP,
    law="strides",
    source="D10 https://github.com/local-inference-lab/vllm/pull/17",
    looks_like="the second side is addressed with the strides of the first",
)
def addresses_both_sides_with_the_strides_of_the_first(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    return merge(o1, lse1, gather(o2, o2.shape, o1.stride()), lse2)


@mutant(
    OP,
    law="strides",
    source="L01 https://github.com/ROCm/aiter/pull/4427",
    looks_like="offsets into the second side are computed in 32 bits",
)
def computes_offsets_into_the_second_side_in_32_bits(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    return merge(o1, lse1, gather(o2, o2.shape, o2.stride(), int32=True), lse2)


@mutant(
    OP,
    law="authority",
    source="D08 https://github.com/flashinfer-ai/flashinfer/issues/3047",
    looks_like="a side without keys has a mass of exp(-1e30), and two of them are averaged",
)
def averages_two_sides_without_keys(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    o, _ = merge(o1, lse1.clamp(min=-1e30), o2, lse2.clamp(min=-1e30))
    return o, torch.logaddexp(lse1, lse2)


@mutant(
    OP,
    law="authority",
    source="constructed after A16 https://github.com/vllm-project/vllm/pull/52796",
    looks_like="-inf is taken from -inf where neither side has a key",
)
def subtracts_infinity_from_infinity(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    m = torch.maximum(lse1, lse2)
    a, b = torch.exp(lse1 - m), torch.exp(lse2 - m)
    o = (a[..., None] * wide(o1) + b[..., None] * wide(o2)) / (a + b)[..., None]
    return o.to(o1.dtype), m + (a + b).log()


@mutant(
    OP,
    law="authority",
    source="constructed after D14 https://github.com/HabanaAI/vllm-fork/issues/275",
    looks_like="exp is taken of the masses as they are, and overflows",
)
def takes_exp_of_the_masses_as_they_are(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    a, b = torch.exp(lse1), torch.exp(lse2)
    total = (a + b).masked_fill(a + b == 0, 1.0)
    o = (a[..., None] * wide(o1) + b[..., None] * wide(o2)) / total[..., None]
    return o.to(o1.dtype), (a + b).log()


@mutant(
    OP,
    law="authority",
    source="constructed after D06 https://github.com/vllm-project/vllm/pull/47079",
    looks_like="the lse is the larger of both, the exponential of the smaller left out",
)
def returns_the_larger_mass(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    return merge(o1, lse1, o2, lse2)[0], torch.maximum(lse1, lse2)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="one share is rounded to bfloat16, the other is what it leaves of 1",
    profile={"bfloat16": "fp32"},
)
def rounds_the_shares_to_bfloat16(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    a, _, lse = shares(lse1, lse2)
    first = a.bfloat16().float()[..., None]
    o = first * wide(o1) + (1 - first) * wide(o2)
    return o.masked_fill((lse == -torch.inf)[..., None], 0.0).to(o1.dtype), lse


@mutant(
    OP,
    law="authority",
    source="constructed after D06 https://github.com/flashinfer-ai/flashinfer/issues/2113",
    looks_like="a side of which exp(-16) is left is taken to have no key",
)
def leaves_out_a_side_of_little_mass(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    best = torch.maximum(lse1, lse2)
    few = [lse.masked_fill(lse < best - 9.0, -torch.inf) for lse in (lse1, lse2)]
    return merge(o1, few[0], o2, few[1])


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="bf16 sides pass through float16, which holds no more than 65504",
    profile={"bfloat16": "fp32"},
)
def merges_bfloat16_through_float16(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    sides = []
    for o, lse in ((o1, lse1), (o2, lse2)):
        narrow = torch.where(o.abs() < 1, o, o.to(torch.float16).to(o.dtype))
        sides.append(narrow.masked_fill((lse == -torch.inf)[..., None], 0.0))
    return merge(sides[0], lse1, sides[1], lse2)


@mutant(
    OP,
    law="exact",
    source="constructed after F16 https://github.com/fla-org/flash-linear-attention/issues/850",
    looks_like="1e-7 is added to the sum of both masses",
    profile={"float32": "fp32"},
)
def adds_an_eps_to_the_sum_of_the_masses(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    return o * (1 / (1 + 1.2e-7)), lse


@mutant(
    OP,
    law="untouched",
    source="D20 https://github.com/vllm-project/vllm/pull/44630",
    looks_like="the merged mass is written over the first one",
)
def writes_the_merged_mass_over_the_first(
    o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor
) -> Result:
    o, lse = merge(o1, lse1, o2, lse2)
    lse1.copy_(lse)
    return o, lse


@mutant(
    OP,
    law="unread",
    source="D08 https://github.com/sgl-project/sglang/pull/22688",
    looks_like="says nan_safe=True, but multiplies what a side without keys holds by 0",
    nan_safe=True,
)
def multiplies_a_side_without_keys_by_zero(*call: Any) -> Result:
    return merge(*call)


@mutant(
    OP,
    law="bias",
    source="constructed after F10 https://github.com/sgl-project/sglang-jax/commit/77d42a78",
    looks_like="numbers in the upper half of a binade are rounded with a leaning toward zero",
    profile={"bfloat16": "fp32"},
)
def leans_toward_zero_as_it_rounds(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor) -> Result:
    o, lse = merge(wide(o1), lse1, wide(o2), lse2)
    mantissa, exponent = torch.frexp(o)
    ulp = torch.ldexp(torch.ones_like(o), exponent - 8)  # of bfloat16
    less = torch.where(mantissa.abs() > 0.75, 0.2 * ulp * o.sign(), 0.0)
    return (o - less).to(o1.dtype), lse
