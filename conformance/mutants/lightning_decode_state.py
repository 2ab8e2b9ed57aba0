"""Lightning decode that keeps, steps or reads the state wrongly."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Result, Tensor, decode, one_token

OP = "lightning_decode"


@mutant(
    OP,
    law="authority",
    source="constructed after A30 https://github.com/fla-org/flash-linear-attention/commit/f636f5a1",
    looks_like="the new state is never written back to the pool",
)
def never_writes_the_state_back(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    return decode(q, k, v, log_decay, state_pool.clone(), slots, scale=scale)


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="a strided pool is copied, and the update goes to the copy",
)
def updates_a_copy_of_a_strided_pool(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    return decode(q, k, v, log_decay, state_pool.contiguous(), slots, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed after C01 https://github.com/sgl-project/sglang-jax/commit/42b1db01",
    looks_like="the first request of the batch is taken for a new one and starts from zero",
)
def starts_the_first_request_from_zero(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    if len(slots) and slots[0] >= 0:
        state_pool[slots[0]] = 0
    return decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@mutant(
    OP,
    law="determinism",
    source="constructed after C15 https://github.com/PaddlePaddle/FastDeploy/pull/6994",
    looks_like="states are kept beside the pool and continued from there",
)
def keeps_its_own_states_beside_the_pool(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    own = OWN_STATES.setdefault(state_pool.shape, state_pool.clone())
    o = decode(q, k, v, log_decay, own, slots, scale=scale)
    listed = slots[slots >= 0].long()
    state_pool[listed] = own[listed]
    return o


OWN_STATES: dict[torch.Size, Tensor] = {}


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the decay is applied after the token was added",
)
def decays_after_the_token_was_added(*call: Any, **options: Any) -> Tensor:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        S = a * (S + k[..., :, None] * v[..., None, :])
        return scale * (q[..., :, None] * S).sum(-2), S

    return decode(*call, **options, token=token)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the state is read before the token is added",
)
def reads_the_state_before_the_token_is_added(*call: Any, **options: Any) -> Tensor:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        return scale * (q[..., :, None] * a * S).sum(-2), one_token(q, k, v, S, a, scale)[1]

    return decode(*call, **options, token=token)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the new state is read with the key, not with the query",
)
def reads_the_state_with_the_key(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any) -> Tensor:  # fmt: skip
    return decode(k, k, v, *call, **options)


@mutant(
    OP,
    law="authority",
    source="A39 https://github.com/vllm-project/vllm/issues/13466",
    looks_like="the rows written back are rounded to bfloat16",
)
def writes_the_state_back_in_bfloat16(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    o = decode(q, k, v, log_decay, state_pool, slots, scale=scale)
    listed = slots[slots >= 0].long()
    state_pool[listed] = state_pool[listed].to(torch.bfloat16).to(state_pool.dtype)
    return o


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the memory of a pool row is read as [H, V, K]",
)
def addresses_a_pool_row_as_values_by_keys(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    P, H, K, V = state_pool.shape
    other = state_pool.reshape(P, H, V, K).mT.contiguous()
    o = decode(q, k, v, log_decay, other, slots, scale=scale)
    listed = slots[slots >= 0].long()
    state_pool[listed] = other[listed].mT.reshape(-1, H, K, V)
    return o


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scale is 1/sqrt(K) whatever the caller asked for",
)
def ignores_the_scale_it_is_given(q: Tensor, *call: Any, scale: float, **options: Any) -> Tensor:
    return decode(q, *call, scale=q.shape[-1] ** -0.5, **options)


@mutant(
    OP,
    law="authority",
    source="constructed after A02 https://github.com/sgl-project/sglang/pull/30360",
    looks_like="the heads take their decays in reverse order",
)
def pairs_the_heads_with_the_decays_of_others(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *call: Any, **options: Any
) -> Tensor:
    return decode(q, k, v, log_decay.flip(0), *call, **options)
