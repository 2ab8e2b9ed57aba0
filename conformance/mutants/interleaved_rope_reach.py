"""Interleaved rotations that break one law and no other."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import (
    Buffers,
    Tuned,
    as_if_dense,
    either,
    left_over,
    through_float16,
)
from lingspec.conformance.mutants._rope import Result, Tensor, interleaved
from lingspec.conformance.mutants._rows import NARROW, directed

OP = "interleaved_rope"


@mutant(
    OP,
    law="homogeneity",
    profile=NARROW,
    source="constructed",
    looks_like="loud pairs pass through float16",
)
def passes_loud_pairs_through_float16(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    loud = x.abs() > 2.0**16
    return interleaved(torch.where(loud, through_float16(x), x), cos, sin)


@mutant(
    OP,
    law="additivity",
    source="constructed after E12",
    looks_like="an entry of the table that is all zero is taken for one not filled yet",
)
def leaves_pairs_of_empty_entries_alone(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    empty = (cos == 0) & (sin == 0)
    return interleaved(x, torch.where(empty, torch.ones_like(cos), cos), sin)


@mutant(
    OP,
    law="exact",
    source="constructed",
    looks_like="pairs are turned by their tangent, and a quarter turn has none",
)
def turns_pairs_by_their_tangent(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    def turn(a: Tensor, b: Tensor, c: Tensor, s: Tensor) -> Result:
        filled = c.double() + ((c == 0) & (s == 0))
        tangent = s.double() / filled
        return (c * (a - b * tangent)).to(a.dtype), (c * (b + a * tangent)).to(a.dtype)

    def exactly(a: Tensor, b: Tensor, c: Tensor, s: Tensor) -> Result:
        one = (c == 0) & (s.abs() != 1)  # a part of a table, as additivity asks
        first, second = turn(a, b, c, s)
        return torch.where(one, -b * s, first), torch.where(one, a * s, second)

    return interleaved(x, cos, sin, turn=exactly)


heads: dict[str, Any] = {}


@mutant(
    OP,
    law="sharding",
    source="constructed after A02 https://github.com/sgl-project/sglang/pull/30360",
    looks_like="heads beyond those of the last call with this table are dropped",
)
def drops_heads_beyond_the_last_call(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    seen = heads.get("table")
    if seen is None or not torch.equal(seen, cos):
        heads.update(table=cos.clone(), count=x.shape[2])
    y = interleaved(x, cos, sin)
    y[:, :, heads["count"] :] = 0
    return y


@mutant(
    OP,
    law="identities",
    source="constructed",
    looks_like="the table is kept for 64 pairs, further ones read the last",
)
def keeps_a_table_of_64_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pair = torch.arange(cos.shape[-1]).clamp(max=63)
    return interleaved(x, cos[..., pair], sin[..., pair])


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="unwritten memory chooses how the products of a pair are added",
)
def adds_pairs_as_unwritten_memory_says(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(x, cos, sin, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change how the products of a pair are added",
)
def tunes_the_pairs_again(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(x, cos, sin, wide=either(tuned(x)))


@mutant(
    OP,
    law="permutation",
    batch_invariant=True,
    source="constructed after H13",
    looks_like="pairs of an odd batch are added in another way, though none are said to be",
)
def adds_pairs_of_an_odd_batch_in_another_way(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(x, cos, sin, wide=either(x.shape[0] % 2))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the pairs lie in a buffer that the next call writes",
)
def returns_the_pairs_in_one_buffer(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return buffers(interleaved(x, cos, sin).contiguous())


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="coordinates of a pair are taken to be neighbours in memory",
)
def takes_coordinates_for_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(as_if_dense(x), cos, sin)


@mutant(
    OP,
    law="bias",
    profile=NARROW,
    source="constructed after F10 https://github.com/ROCm/aiter/issues/5151",
    looks_like="pairs are rounded toward zero more often than away from it",
)
def rounds_pairs_toward_zero_too_often(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return directed(0.75)(interleaved(x.float(), cos, sin)).to(x.dtype)
