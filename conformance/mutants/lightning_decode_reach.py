"""Lightning decode that is right only where small tests look."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Tensor, decode
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
