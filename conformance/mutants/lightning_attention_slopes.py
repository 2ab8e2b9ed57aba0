"""Lightning attention that takes another decay than the one it is given."""

from __future__ import annotations

from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Result, Tensor, chunked, head_slopes, recurrent

OP = "lightning_attention"


@mutant(
    OP,
    law="authority",
    source="constructed after A18 https://github.com/flashinfer-ai/flashinfer/issues/2490",
    looks_like="1 + g is taken for the decay e^g",
)
def takes_one_plus_the_logarithm_for_the_decay(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    return recurrent(q, k, v, torch.log((1 + log_decay).clamp(min=0)), **options)


@mutant(
    OP,
    law="permutation",
    source="constructed",
    looks_like="all heads use the decay of head 0",
)
def decays_every_head_as_the_first(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    return chunked(q, k, v, log_decay[:1].expand_as(log_decay), **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="heads from the fifth on start over with the decays of the first four",
)
def gives_heads_past_the_fourth_the_decays_of_the_first(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    return chunked(q, k, v, log_decay[torch.arange(len(log_decay)) % 4], **options)


@mutant(
    OP,
    law="sharding",
    source="constructed after A02 https://github.com/sgl-project/sglang/pull/30360",
    looks_like="the slopes are recomputed from the number of heads in this shard",
)
def recomputes_the_slopes_from_the_local_head_count(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    local = torch.tensor(head_slopes(max(1, len(log_decay))), dtype=log_decay.dtype)
    return chunked(q, k, v, local[: len(log_decay)] * (log_decay[:1] / local[0]), **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="slow heads are taken to have no decay at all",
)
def forgets_the_decay_of_slow_heads(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    return chunked(q, k, v, torch.where(log_decay > -0.01, 0, log_decay), **options)


@mutant(
    OP,
    law="authority",
    source="constructed after A42 https://github.com/NVIDIA/cudnn-frontend/issues/916",
    looks_like="the decay of one step is rounded to bfloat16 and then compounded",
)
def compounds_a_decay_rounded_to_bfloat16(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    rounded = torch.exp(log_decay).to(torch.bfloat16).to(log_decay.dtype)
    return recurrent(q, k, v, torch.log(rounded), **options)


@mutant(
    OP,
    law="authority",
    source="constructed after K04 https://github.com/NVIDIA-NeMo/Automodel/pull/2484",
    looks_like="the log decay was cast to bfloat16 with the weights of the model",
)
def casts_the_log_decay_to_bfloat16(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    return chunked(q, k, v, log_decay.to(torch.bfloat16).to(log_decay.dtype), **options)
