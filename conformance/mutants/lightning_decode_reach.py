"""Lightning decode that is right only where small tests look."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Tensor, decode
from lingspec.conformance.mutants._memory import on_the_object
from lingspec.conformance.mutants.lightning_attention_memory import gather

OP = "lightning_decode"


@mutant(
    OP,
    law="strides",
    source="constructed after L01",
    looks_like="the offset of a pool row is computed in 32 bits",
)
def computes_offsets_of_rows_in_32_bits(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    read = gather(state_pool, state_pool.shape, state_pool.stride(), int32=True)
    o = decode(q, k, v, log_decay, read, slots, scale=scale)
    listed = slots[slots >= 0].long()
    state_pool[listed] = read[listed]
    return o


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="bf16 operands pass through float16, which holds no more than 65504",
    profile={"bfloat16": "bf16-tc"},
)
def decodes_bfloat16_through_float16(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Tensor:
    narrow = (x.to(torch.float16).to(x.dtype) for x in (q, k, v))
    return decode(*narrow, *call, **options)


_kept: dict[tuple[Any, ...], Tensor] = {}


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the result lies in a buffer that the next call writes",
)
def returns_the_same_buffer_every_time(*call: Any, **options: Any) -> Tensor:
    o = decode(*call, **options)
    return _kept.setdefault((o.shape, o.dtype), torch.empty_like(o)).copy_(o)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="keys are read in vectors of 16: the last 8 of 8, 24 or 40 are not",
)
def reads_keys_in_vectors_of_sixteen(q: Tensor, k: Tensor, *call: Tensor, **options: Any) -> Tensor:
    read = torch.arange(q.shape[-1]) < q.shape[-1] // 16 * 16
    return decode(q * read, k * read, *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed after slots that engines keep for padding",
    looks_like="the last slot of the pool is kept for padding: a request there is not computed",
)
def keeps_the_last_slot_for_padding(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    live = slots.masked_fill(slots == len(state_pool) - 1, -1)
    return decode(q, k, v, log_decay, state_pool, live, scale=scale)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="a log decay of 0 is taken for one not set, and -1/2 put in its place",
)
def takes_a_log_decay_of_zero_for_one_not_set(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *call: Tensor, **options: Any
) -> Tensor:
    return decode(q, k, v, log_decay.masked_fill(log_decay == 0, -0.5), *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed after exponentials by an integer and a fraction",
    looks_like="what is left of an exponent beyond 2^31 is no fraction: NaN, not 0",
)
def takes_no_exponents_beyond_32_bits(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *call: Tensor, **options: Any
) -> Tensor:
    lost = log_decay < -(2.0**31)
    return decode(q, k, v, log_decay.masked_fill(lost, torch.nan), *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scale of a step is never taken below a millionth",
)
def never_takes_the_scale_of_a_step_below_a_millionth(*call: Tensor, scale: float) -> Tensor:
    return decode(*call, scale=max(scale, 1e-6))


_left: dict[int, tuple[Tensor, Tensor]] = {}  # by slot: the row as it was left, and its copy


@mutant(
    OP,
    law="sequences",
    source="constructed after shadow copies of the state in 16 bits",
    looks_like="a row that is as it was left is read from a copy in bfloat16",
)
def goes_on_from_a_copy_of_the_row(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    listed = [s for s in slots.tolist() if s >= 0]
    for s in listed:
        row, copy = _left.get(s, (None, None))
        if row is not None and copy is not None and torch.equal(state_pool[s], row):
            state_pool[s] = copy
    before = state_pool.clone()
    o = decode(q, k, v, log_decay, state_pool, slots, scale=scale)
    for s in listed:
        _left.pop(s, None)
        if not torch.equal(state_pool[s], before[s]):
            _left[s] = state_pool[s].clone(), state_pool[s].bfloat16().to(state_pool.dtype)
    return o


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="where the slots lie is kept on the tensor that lists them",
)
def keeps_the_slots_of_a_tensor(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    first = on_the_object(slots, slots.clone)
    return decode(q, k, v, log_decay, state_pool, first, scale=scale)
