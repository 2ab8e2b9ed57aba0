"""Lightning decode that mixes up requests, slots, padding or the order of the step."""

from __future__ import annotations

from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Result, Tensor, decode, one_token

OP = "lightning_decode"


@mutant(
    OP,
    law="untouched",
    source="C06 https://github.com/lightseekorg/tokenspeed/pull/700",
    looks_like="padding rows are clamped to slot 0 and update it",
)
def clamps_padding_to_slot_zero(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    return decode(q, k, v, log_decay, state_pool, slots.clamp(min=0), scale=scale)


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="slot -1 wraps to the last row of the pool",
)
def wraps_padding_to_the_last_slot(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    return decode(q, k, v, log_decay, state_pool, slots % len(state_pool), scale=scale)


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="the whole pool is decayed, listed or not",
)
def decays_the_whole_pool(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    state_pool.mul_(torch.exp(log_decay)[:, None, None])
    return decode(q, k, v, 0 * log_decay, state_pool, slots, scale=scale)


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="the row behind the first listed one is rounded as well",
)
def rounds_the_row_behind_a_listed_one(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    listed = set(slots.tolist())
    for slot in listed - {-1}:
        if slot + 1 < len(state_pool) and slot + 1 not in listed:
            state_pool[slot + 1] = state_pool[slot + 1].to(torch.bfloat16).to(state_pool.dtype)
    return decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="the output of padding rows is uninitialised memory",
)
def leaves_the_output_of_padding_uninitialised(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    o = decode(q, k, v, log_decay, state_pool, slots, scale=scale)
    written = torch.empty_like(o)
    written[slots >= 0] = o[slots >= 0]
    return written


@mutant(
    OP,
    law="untouched",
    source="L04 https://github.com/fla-org/flash-linear-attention/commit/ccb0ff94",
    looks_like="every block of 16 value columns is stored at column 0",
)
def stores_every_block_of_columns_at_the_first(*call: Any, **options: Any) -> Tensor:
    o = decode(*call, **options)
    written = o.new_empty(o.shape)
    for block in torch.split(o, 16, dim=-1):
        written[..., : block.shape[-1]] = block
    return written


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the first padding row ends the batch",
)
def stops_at_the_first_padding_row(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    before_padding = (slots < 0).cumsum(0) == 0
    slots = torch.where(before_padding, slots, -1)
    return decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="slot 0 is taken for padding",
)
def takes_slot_zero_for_padding(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    slots = torch.where(slots > 0, slots, -1)
    return decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the number in the batch is used as the slot",
)
def uses_the_number_in_the_batch_as_the_slot(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    number = torch.arange(len(slots), device=slots.device).clamp(max=len(state_pool) - 1)
    slots = torch.where(slots < 0, slots, number)
    return decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="slots are sorted, requests are not",
)
def sorts_the_slots_but_not_the_requests(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    return decode(q, k, v, log_decay, state_pool, slots.sort().values, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="64-bit slots are read as pairs of 32-bit ones",
)
def reads_64_bit_slots_as_32_bit(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    halves = slots.contiguous().view(torch.int32)[: len(slots)]
    return decode(q, k, v, log_decay, state_pool, halves, scale=scale)


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
