"""Norms and rotations of queries and keys that compute something else."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Result, Tensor, both, partial
from lingspec.conformance.mutants._rows import norm

OP = "qk_norm_rope"


@mutant(
    OP,
    law="authority",
    source="E08 https://github.com/vllm-project/vllm-metal/issues/660",
    looks_like="heads are rotated before they are normalised",
)
def rotates_before_it_normalises(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    made = (norm(partial(x, cos, sin), w, eps=eps) for x, w in ((q, q_weight), (k, k_weight)))
    q, k = made
    return q, k


@mutant(
    OP,
    law="authority",
    source="E08 https://github.com/vllm-project/vllm-metal/issues/659",
    looks_like="keys are rotated, but not normalised",
)
def does_not_normalise_the_keys(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    return both(q, k, q_weight, k_weight, cos, sin, eps=eps)[0], partial(k, cos, sin)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="queries and keys share the weights of the queries",
)
def weighs_keys_like_queries(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    return both(q, k, q_weight, q_weight, cos, sin, eps=eps)


@mutant(
    OP,
    law="authority",
    source="constructed after the norms of OLMo 2, which are of all heads",
    looks_like="the mean square is of all heads of a token",
)
def normalises_all_heads_together(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    def mean(x: Tensor) -> Tensor:
        return x.square().mean((-1, -2), keepdim=True)

    return both(q, k, q_weight, k_weight, cos, sin, eps=eps, mean=mean)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the mean square is of the rotated dims alone",
)
def normalises_by_the_rotated_dims(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    R = 2 * cos.shape[-1]

    def mean(x: Tensor) -> Tensor:
        return x[..., :R].square().mean(-1, keepdim=True)

    return both(q, k, q_weight, k_weight, cos, sin, eps=eps, mean=mean)


@mutant(
    OP,
    law="authority",
    source="constructed after E01 https://github.com/vllm-project/vllm/pull/50903",
    looks_like="as many heads of the keys are done as there are of the queries, and no more",
)
def does_as_many_keys_as_queries(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    made, done = both(q, k, q_weight, k_weight, cos, sin, eps=eps)
    out = k.clone()
    out[:, :, : q.shape[2]] = done[:, :, : q.shape[2]]
    return made, out


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the weights are multiplied after the rotation",
)
def weighs_after_the_rotation(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    made = both(q, k, torch.ones_like(q_weight), torch.ones_like(k_weight), cos, sin, eps=eps)
    return made[0] * q_weight, made[1] * k_weight


@mutant(
    OP,
    law="authority",
    source="constructed after NORM of vectors, not of their mean",
    looks_like="heads are divided by their length, not by its share of a dim",
)
def divides_heads_by_their_length(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    def total(x: Tensor) -> Tensor:
        return x.square().sum(-1, keepdim=True)

    return both(q, k, q_weight, k_weight, cos, sin, eps=eps, mean=total)


@mutant(
    OP,
    law="authority",
    source="E13 https://github.com/allenai/OLMo-core/pull/591",
    looks_like="keys stand one token later than queries",
)
def places_keys_one_token_later(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    eps: float,
) -> Result:
    made, _ = both(q, k, q_weight, k_weight, cos, sin, eps=eps)
    return made, partial(norm(k, k_weight, eps=eps), cos.roll(-1, 1), sin.roll(-1, 1))
