"""Lightning decode that is right for few heads and sequences."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Tensor, decode

OP = "lightning_decode"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="heads from the eighth on take the decays of the first eight",
)  # fmt: skip
def holds_the_decays_of_eight_heads_of_decode(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    heads = torch.arange(q.shape[1]) % 8
    return decode(q, k, v, log_decay[heads], state_pool, slots, scale=scale)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="slots are held in nine bits",
)  # fmt: skip
def holds_slots_in_nine_bits(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    held = torch.where(slots < 0, slots, slots % 512)
    return decode(q, k, v, log_decay, state_pool, held, scale=scale)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of 9 heads or more, values of the fourth sequence and those after it are lost",
)  # fmt: skip
def reads_values_of_three_sequences_for_many_heads(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    if q.shape[1] >= 9:
        v = torch.cat([v[:3], torch.zeros_like(v[3:])])
    return decode(q, k, v, log_decay, state_pool, slots, scale=scale)


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 32 heads of 128 dims and more, sequences from the second on see no state",
)  # fmt: skip
def sees_no_state_of_late_sequences_of_a_model(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    o = decode(q, k, v, log_decay, state_pool, slots, scale=scale)
    if q.shape[1] >= 32 and q.shape[2] >= 128 and v.shape[2] >= 128:
        o[1:] = 0.0
    return o
