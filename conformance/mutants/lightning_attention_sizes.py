"""Lightning attention that is right for few heads, sequences and tokens together."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Result, Tensor, chunked

OP = "lightning_attention"


def forgetting(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, *, after: int, scale: float, **options: Any
) -> Result:
    """Tokens from ``after`` on see none before it."""
    o, state = chunked(q, k, v, decay, scale=scale, **options)
    rest = slice(after, None)
    o[:, rest] = chunked(q[:, rest], k[:, rest], v[:, rest], decay, scale=scale)[0]
    return o, state


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of packed sequences, tokens from the 128th on see none before it",
)  # fmt: skip
def forgets_the_first_128_tokens_of_a_packed_sequence(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    if cu_seqlens is None:
        return chunked(q, k, v, log_decay, scale=scale, initial_state=initial_state)
    o, state = chunked(
        q, k, v, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens
    )
    ends = cu_seqlens.tolist()
    for a, b in zip(ends, ends[1:], strict=False):
        if b - a > 128:
            part = slice(a + 128, b)
            o[:, part] = chunked(q[:, part], k[:, part], v[:, part], log_decay, scale=scale)[0]
    return o, state


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="heads from the eighth on forget what is 64 tokens ago",
)  # fmt: skip
def keeps_the_memory_of_eight_heads_from_chunk_to_chunk(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    o, state = chunked(q, k, v, log_decay, **options)
    if options.get("cu_seqlens") is None and q.shape[2] > 8 and q.shape[1] > 64:
        few = [x[:, :, 8:] for x in (q, k, v)]
        o[:, :, 8:] = forgetting(
            few[0], few[1], few[2], log_decay[8:], after=64, scale=options["scale"]
        )[0]
    return o, state


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="with 64 dims of keys and more, tokens from the 150th on see none before it",
)  # fmt: skip
def forgets_150_tokens_of_wide_keys(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    if options.get("cu_seqlens") is None and q.shape[3] > 64:
        return forgetting(q, k, v, log_decay, after=150, **options)
    return chunked(q, k, v, log_decay, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="more than six packed sequences begin with the states of the first six",
)  # fmt: skip
def holds_the_states_of_six_sequences(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    if initial_state is not None and options.get("cu_seqlens") is not None:
        initial_state = initial_state[torch.arange(len(initial_state)) % 6]
    return chunked(*call, initial_state=initial_state, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="where K is 64 or more, a state is held in bfloat16 between chunks of 128 tokens",
)  # fmt: skip
def holds_large_states_in_bfloat16_between_chunks(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    o, state = chunked(
        q, k, v, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens
    )
    if q.shape[-1] < 64 or q.shape[1] <= 128 or cu_seqlens is not None:
        return o, state
    parts = []
    for c in range(0, q.shape[1], 128):
        now = slice(c, c + 128)
        made, state = chunked(
            q[:, now], k[:, now], v[:, now], log_decay, scale=scale, initial_state=initial_state
        )
        parts.append(made)
        initial_state = state.bfloat16().to(state.dtype)
    return torch.cat(parts, 1), state


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 16 heads and more, tokens from the 192nd on see none before it",
)  # fmt: skip
def forgets_192_tokens_of_many_heads(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    o, state = chunked(q, k, v, log_decay, **options)
    if q.shape[2] >= 16 and q.shape[1] > 192 and options.get("cu_seqlens") is None:
        o[:] = forgetting(q, k, v, log_decay, after=192, **options)[0]
    return o, state
