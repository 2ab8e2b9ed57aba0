"""Softmax attention that goes wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, attention, hidden, sparing

OP = "mla_attention"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="keys are read in vectors of 16: the last 8 of 8, 24 or 40 dims are not",
)
def reads_dims_of_keys_in_vectors_of_sixteen(
    q: Tensor, k: Tensor, v: Tensor, **options: Any
) -> Result:
    whole = k.shape[-1] // 16 * 16
    return attention(q[..., :whole], k[..., :whole], v, **options)


@mutant(
    OP,
    law="causality",
    source="constructed after `offset or default`",
    looks_like="as many keys as queries: an offset of 0 is taken for none, and is 1",
)
def takes_an_offset_of_zero_for_one_not_set(*call: Tensor, **options: Any) -> Result:
    def seen(T: int, S: int) -> Tensor:
        return hidden(T, S) if S > T else hidden(T, S).triu(2)

    return attention(*call, **options, hidden=seen)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scale is never taken below a hundredth",
)
def never_takes_the_scale_below_a_hundredth(*call: Tensor, scale: float, **options: Any) -> Result:
    return attention(*call, scale=max(scale, 0.01), **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="value columns are stored in vectors of 16: the last 8 of 8, 24 or 40 are not",
)
def stores_values_in_vectors_of_sixteen(*call: Tensor, **options: Any) -> Result:
    o, lse = attention(*call, **options)
    o[..., o.shape[-1] // 16 * 16 :] = 0.0
    return o, lse


@mutant(
    OP,
    law="authority",
    source="constructed after BLASST https://arxiv.org/abs/2512.12087",
    looks_like="tiles of 16 keys are skipped if none weighs a billionth of the best one before",
    profile={"float32": "fp32", "bfloat16": "bf16-tc"},
)
def skips_tiles_of_keys_that_weigh_next_to_nothing(*call: Any, **options: Any) -> Result:
    return attention(*call, **options, soften=sparing(16, 1e-9))
