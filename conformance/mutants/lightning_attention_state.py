"""Lightning attention with a wrong state: the initial one, the final one, or between chunks."""

from __future__ import annotations

from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import (
    CHUNK,
    Result,
    Tensor,
    chunked,
    keep,
    start_state,
    steps,
    write,
)

OP = "lightning_attention"
FLA = "https://github.com/fla-org/flash-linear-attention"


@mutant(
    OP,
    law="handover",
    source=f"A04 {FLA}/commit/0dc28dcd",
    looks_like="the last, partial chunk is decayed as if it were full",
)
def decays_the_last_partial_chunk_as_if_full(*call: Any, **options: Any) -> Result:
    def full_keep(g: Tensor, C: int) -> Tensor:
        return keep(g, CHUNK)

    def full_write(g: Tensor, C: int) -> Tensor:
        return write(g, CHUNK)[:, :C]

    return chunked(*call, **options, keep=full_keep, write=full_write)


@mutant(
    OP,
    law="handover",
    source=f"A05 {FLA}/commit/e361dd3a",
    looks_like="where the length is a multiple of the chunk, the last chunk has length 0",
)
def takes_a_full_chunk_for_an_empty_one(*call: Any, **options: Any) -> Result:
    def by_remainder(g: Tensor, C: int) -> Tensor:
        return keep(g, C % CHUNK)

    return chunked(*call, **options, keep=by_remainder)


@mutant(
    OP,
    law="handover",
    source=f"A06 {FLA}/commit/b63addd7",
    looks_like="the decay of a partial chunk is read past its end, where it is 1",
)
def does_not_decay_the_state_over_a_partial_chunk(*call: Any, **options: Any) -> Result:
    def undecayed_if_partial(g: Tensor, C: int) -> Tensor:
        return keep(g, C) if C == CHUNK else torch.ones_like(g)

    return chunked(*call, **options, keep=undecayed_if_partial)


@mutant(
    OP,
    law="handover",
    source="constructed",
    looks_like="what a token writes is decayed once too often by the end of its chunk",
)
def decays_what_a_chunk_writes_once_too_often(*call: Any, **options: Any) -> Result:
    def one_more(g: Tensor, C: int) -> Tensor:
        return write(g, C) * torch.exp(g)[:, None]

    return chunked(*call, **options, write=one_more)


@mutant(
    OP,
    law="handover",
    source="C08 https://github.com/lightseekorg/tokenspeed/pull/969",
    looks_like="the padding of the last tile, a copy of the last token, goes into the state",
)
def writes_the_padding_of_the_last_tile_into_the_state(
    q: Tensor, k: Tensor, v: Tensor, *call: Any,
    cu_seqlens: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    T = q.shape[1]
    if cu_seqlens is not None or T % 16 == 0:
        return chunked(q, k, v, *call, cu_seqlens=cu_seqlens, **options)
    padded = steps(T - T % 16 + 16, q.float()).long().clamp(max=T - 1)
    o, state = chunked(q[:, padded], k[:, padded], v[:, padded], *call, **options)
    return o[:, :T], state


@mutant(
    OP,
    law="handover",
    source="constructed",
    looks_like="the final state is that before the last token",
)
def returns_the_state_before_the_last_token(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    o, state = chunked(q, k, v, log_decay, **options)
    if options.get("cu_seqlens") is not None:
        return o, state
    return o, chunked(q[:, :-1], k[:, :-1], v[:, :-1], log_decay, **options)[1]


@mutant(
    OP,
    law="handover",
    source="C12 https://github.com/huggingface/transformers/pull/45513",
    looks_like="a call of more than one token starts from zero, whatever the initial state",
)
def restarts_from_zero_for_every_call_of_several_tokens(
    q: Tensor, *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    kept = initial_state if q.shape[1] <= 1 or initial_state is None else 0 * initial_state
    return chunked(q, *call, initial_state=kept, **options)


@mutant(
    OP,
    law="handover",
    source="constructed after C01 https://github.com/sgl-project/sglang-jax/commit/42b1db01",
    looks_like="the initial state is used only by calls of more than one chunk",
)
def takes_the_initial_state_only_if_there_are_several_chunks(
    q: Tensor, *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    kept = initial_state if q.shape[1] > CHUNK or initial_state is None else 0 * initial_state
    return chunked(q, *call, initial_state=kept, **options)


@mutant(
    OP,
    law="handover",
    source="constructed",
    looks_like="the initial state is read and handed on without decay",
)
def never_decays_the_initial_state(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    packed: dict[str, Any] = {"scale": scale, "cu_seqlens": cu_seqlens}
    o, state = chunked(q, k, v, log_decay, **packed)
    if initial_state is None:
        return o, state
    o_start, start = chunked(
        q, k, 0 * v, 0 * log_decay, initial_state=initial_state, **packed
    )  # fmt: skip
    return o + o_start, state + start


@mutant(
    OP,
    law="handover",
    source=f"constructed after C11 {FLA}/pull/1176",
    looks_like="the state that is handed over is decayed once more on arrival",
)
def decays_the_initial_state_once_more_on_arrival(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    if initial_state is not None:
        initial_state = initial_state * torch.exp(log_decay)[:, None, None]
    return chunked(q, k, v, log_decay, initial_state=initial_state, **options)


@mutant(
    OP,
    law="handover",
    source=f"A30 {FLA}/commit/f636f5a1",
    looks_like="without an initial state no final state is computed",
)
def updates_the_state_only_if_one_was_given(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(*call, initial_state=initial_state, **options)
    return o, torch.zeros_like(state) if initial_state is None else state


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="a call without tokens gives zeros and not the initial state",
)
def forgets_the_initial_state_of_a_call_without_tokens(
    q: Tensor, *call: Any, **options: Any
) -> Result:
    o, state = chunked(q, *call, **options)
    return o, state if q.shape[1] else torch.zeros_like(state)


@mutant(
    OP,
    law="authority",
    source="I10 https://github.com/vllm-project/vllm/issues/44110",
    looks_like="a square state is taken to be stored as [V, K]",
)
def transposes_the_initial_state_if_it_is_square(
    q: Tensor, k: Tensor, v: Tensor, *call: Any,
    initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    if initial_state is not None and q.shape[-1] == v.shape[-1]:
        initial_state = initial_state.mT
    return chunked(q, k, v, *call, initial_state=initial_state, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the initial state's memory is read as [V, K]",
)
def reads_the_initial_state_s_memory_as_values_by_keys(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    if initial_state is not None:
        N, H, K, V = initial_state.shape
        initial_state = initial_state.reshape(N, H, V, K).mT
    return chunked(*call, initial_state=initial_state, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the final state is returned as [N, H, V, K]",
)
def returns_the_final_state_as_values_by_keys(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    return o, state.mT.contiguous()


@mutant(
    OP,
    law="authority",
    source="A39 https://github.com/vllm-project/vllm/issues/13466",
    looks_like="the final state has the dtype of k",
)
def returns_the_final_state_in_the_dtype_of_the_keys(
    q: Tensor, *call: Any, **options: Any
) -> Result:
    o, state = chunked(q, *call, **options)
    return o, state.to(q.dtype)


@mutant(
    OP,
    law="authority",
    source=f"constructed after A24 {FLA}/commit/e18aedf2",
    looks_like="the third chunk and later ones read the state of two chunks before",
)
def reads_the_chunk_state_before_the_last_one(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    o, state = chunked(q, k, v, log_decay, **options)
    if options.pop("cu_seqlens", None) is not None or q.shape[1] <= 2 * CHUNK:
        return o, state
    first, rest = slice(CHUNK), slice(2 * CHUNK, None)
    _, stale = chunked(q[:, first], k[:, first], v[:, first], log_decay, **options)
    options["initial_state"] = stale
    o_rest, _ = chunked(q[:, rest], k[:, rest], v[:, rest], log_decay, **options)
    return torch.cat([o[:, : 2 * CHUNK], o_rest], dim=1), state


@mutant(
    OP,
    law="determinism",
    source="C15 https://github.com/PaddlePaddle/FastDeploy/pull/6994",
    looks_like="the state of the previous call of the same shape is kept and continued",
)
def continues_the_state_of_the_call_before(
    q: Tensor, k: Tensor, v: Tensor, *call: Any,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    sequences = q.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
    start = start_state(q, v, initial_state, sequences)
    if initial_state is None:
        start = LAST_STATE.get(start.shape, start).to(start)
    o, state = chunked(q, k, v, *call, initial_state=start, cu_seqlens=cu_seqlens, **options)
    LAST_STATE[state.shape] = state.detach().clone()
    return o, state


LAST_STATE: dict[torch.Size, Tensor] = {}
