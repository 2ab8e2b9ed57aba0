"""Norms and rotations of queries and keys that break one law and no other."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import (
    Buffers,
    Tuned,
    as_if_dense,
    below_four,
    either,
    left_over,
    zero_is_one,
)
from lingspec.conformance.mutants._rope import Result, Tensor, both, rotated
from lingspec.conformance.mutants._rows import NARROW, directed, estimated_root, fused

OP = "qk_norm_rope"


@mutant(
    OP,
    law="homogeneity",
    source="constructed after F18 https://github.com/sgl-project/sglang/issues/32807",
    looks_like="weights of queries and keys are held as fixed-point numbers below 4",
)
def holds_the_weights_of_heads_below_four(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, *call: Any, **options: Any
) -> Result:
    return both(q, k, below_four(q_weight), below_four(k_weight), *call, **options)


@mutant(
    OP,
    law="additivity",
    source="constructed",
    looks_like="a dim whose weight is zero is left unweighed",
)
def leaves_dims_of_zero_weight_unweighed(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, *call: Any, **options: Any
) -> Result:
    return both(q, k, zero_is_one(q_weight), zero_is_one(k_weight), *call, **options)


@mutant(
    OP,
    law="exact",
    profile=NARROW,
    source="constructed after vrsqrte, whose result has eight bits",
    looks_like="the estimate of a head's root is not refined",
)
def estimates_the_root_of_a_head(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    def half(x: Tensor, weight: Tensor) -> Tensor:
        y = fused(x.float(), weight.float(), eps=eps, inverse=estimated_root)
        R = 2 * cos.shape[-1]
        return torch.cat([rotated(y[..., :R], cos, sin), y[..., R:]], -1).to(x.dtype)

    return half(q, q_weight), half(k, k_weight)


heads: dict[str, Any] = {}


@mutant(
    OP,
    law="sharding",
    source="constructed after A02 https://github.com/sgl-project/sglang/pull/30360",
    looks_like="heads beyond those of the last call with this table are dropped",
)
def drops_queries_beyond_the_last_call(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    seen = heads.get("table")
    if seen is None or not torch.equal(seen, cos):
        heads.update(table=cos.clone(), count=q.shape[2])
    made, keys = both(q, k, q_weight, k_weight, cos, sin, eps=eps)
    same = heads.get("keys") is not None and torch.equal(heads["keys"], k[:, :, :1])
    heads["keys"] = k[:, :, :1].clone()
    if same:
        made[:, :, heads["count"] :] = 0
    return made, keys


@mutant(
    OP,
    law="invariance",
    source="constructed after F16 https://github.com/mosaicml/llm-foundry/issues/371",
    looks_like="eps of heads is kept in float16, whose smallest number is 6e-8",
)
def keeps_eps_of_heads_above_the_smallest_of_float16(
    *call: Any, eps: float, **options: Any
) -> Result:
    return both(*call, **options, eps=max(eps, 2.0**-24))


@mutant(
    OP,
    law="identities",
    source="constructed",
    looks_like="the table of queries and keys is held as fixed-point numbers below 2",
)
def holds_the_table_of_heads_below_two(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    return both(q, k, q_weight, k_weight, cos.clamp(-2, 2), sin.clamp(-2, 2), eps=eps)


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="unwritten memory chooses how the squares of a head are added up",
)
def adds_heads_up_as_unwritten_memory_says(*call: Any, **options: Any) -> Result:
    return both(*call, **options, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change how the squares of a head are added up",
)
def tunes_the_norm_of_heads_again(q: Tensor, *call: Any, **options: Any) -> Result:
    return both(q, *call, **options, wide=either(tuned(q)))


@mutant(
    OP,
    law="permutation",
    batch_invariant=True,
    source="constructed after E01 https://github.com/vllm-project/vllm/issues/51049",
    looks_like="an odd batch takes another path, though none is said to",
)
def takes_another_path_for_an_odd_batch(q: Tensor, *call: Any, **options: Any) -> Result:
    return both(q, *call, **options, wide=either(q.shape[0] % 2))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the keys lie in a buffer that the next call writes",
)
def returns_the_keys_in_one_buffer(*call: Any, **options: Any) -> Result:
    made, keys = both(*call, **options)
    return made, buffers(keys.contiguous())


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="dims of the keys are taken to be neighbours in memory",
)
def takes_dims_of_the_keys_for_neighbours(
    q: Tensor, k: Tensor, *call: Any, **options: Any
) -> Result:
    return both(q, as_if_dense(k), *call, **options)


@mutant(
    OP,
    law="bias",
    profile=NARROW,
    source="constructed after F10 https://github.com/ROCm/aiter/issues/5151",
    looks_like="queries are rounded once, by dropping bits",
)
def drops_the_bits_of_the_queries(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    _, keys = both(q, k, q_weight, k_weight, cos, sin, eps=eps)
    y = fused(q.float(), q_weight.float(), eps=eps)
    R = 2 * cos.shape[-1]
    y = torch.cat([rotated(y[..., :R], cos, sin), y[..., R:]], -1)
    return directed(0.75)(y).to(q.dtype), keys
