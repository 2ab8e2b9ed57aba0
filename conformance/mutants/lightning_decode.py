"""Lightning decode that mixes up requests, slots or padding."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Tensor, decode

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
