"""Partial rotations that break one law and no other."""

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
    packed_if_sparse,
    through_float16,
)
from lingspec.conformance.mutants._memory import as_if_dense_by_token, on_the_object
from lingspec.conformance.mutants._rope import Result, Tensor, partial, rotated
from lingspec.conformance.mutants._rows import NARROW, directed

OP = "partial_rope"


@mutant(
    OP,
    law="homogeneity",
    profile=NARROW,
    source="constructed",
    looks_like="loud heads pass through float16",
)
def passes_loud_heads_through_float16(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    loud = x.abs() > 2.0**16
    return partial(torch.where(loud, through_float16(x), x), cos, sin)


@mutant(
    OP,
    law="additivity",
    source="constructed",
    looks_like="heads with zeros among their dims are packed, and pairs are lost",
)
def packs_sparse_heads(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(packed_if_sparse(x), cos, sin)


@mutant(
    OP,
    law="exact",
    source="constructed",
    looks_like="the tangent is used, and a quarter turn has none",
)
def multiplies_by_the_tangent(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    def turn(a: Tensor, b: Tensor, c: Tensor, s: Tensor) -> Result:
        tangent = s.double() / c.double()
        return (c * (a - b * tangent)).to(a.dtype), (c * (b + a * tangent)).to(a.dtype)

    return partial(x, cos, sin, turn=turn)


heads: dict[str, Any] = {}


@mutant(
    OP,
    law="sharding",
    source="constructed after A02 https://github.com/sgl-project/sglang/pull/30360",
    looks_like="as many heads are rotated as when the same table was last seen",
)
def remembers_the_heads_of_a_table(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    seen = heads.get("table")
    if seen is None or not torch.equal(seen, cos):
        heads.update(table=cos.clone(), count=x.shape[2])
    y, count = x.clone(), heads["count"]
    y[:, :, :count] = partial(x[:, :, :count], cos, sin)
    return y


@mutant(
    OP,
    law="identities",
    source="constructed",
    looks_like="cosines and sines are held as fixed-point numbers below 2",
)
def holds_the_table_below_two(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos.clamp(-2, 2), sin.clamp(-2, 2))


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="a flag that nobody has set chooses how products are added",
)
def adds_products_as_an_unset_flag_says(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos, sin, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change how products are added",
)
def tunes_the_rotation_again(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos, sin, wide=either(tuned(x)))


@mutant(
    OP,
    law="permutation",
    batch_invariant=True,
    source="constructed after H13",
    looks_like="an odd batch is rotated in another way, though none is said to be",
)
def rotates_an_odd_batch_in_another_way(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos, sin, wide=either(x.shape[0] % 2))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the rotated heads lie in a buffer that the next call writes",
)
def returns_the_rotated_heads_in_one_buffer(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return buffers(partial(x, cos, sin).contiguous())


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="entries of the table are taken to be neighbours in memory",
)
def takes_sines_for_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos, as_if_dense(sin))


@mutant(
    OP,
    law="bias",
    profile=NARROW,
    source="constructed after F10 https://github.com/ROCm/aiter/issues/5151",
    looks_like="rotated dims are rounded toward zero more often than away from it",
)
def rounds_rotated_dims_toward_zero_too_often(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    R = 2 * cos.shape[-1]
    turned = directed(0.75)(rotated(x[..., :R].float(), cos, sin)).to(x.dtype)
    return torch.cat([turned, x[..., R:]], -1)


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="the table of a tensor of cosines is kept on it",
)
def keeps_the_table_of_a_tensor(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, *on_the_object(cos, lambda: (cos.clone(), sin.clone())))


@mutant(
    OP,
    law="strides",
    source="constructed after B18 https://github.com/fla-org/flash-linear-attention/commit/71ebc498",
    looks_like="tokens that follow one another are taken for the whole batch",
)
def takes_a_prefix_of_every_row_for_all_of_it(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(as_if_dense_by_token(x), cos, sin)


@mutant(
    OP,
    law="strides",
    source="constructed after B18 https://github.com/fla-org/flash-linear-attention/commit/71ebc498",
    looks_like="a table with a stride of 0 is read as if it had one",
)
def reads_a_table_that_a_batch_shares_as_if_it_had_rows(
    x: Tensor, cos: Tensor, sin: Tensor
) -> Tensor:
    shared = cos.dim() > 2 and cos.stride(0) == 0 and cos.numel() > 0
    room = cos[:1].new_full(cos.shape, torch.nan)
    room[:1] = cos[:1]
    return partial(x, room if shared else cos, sin)
