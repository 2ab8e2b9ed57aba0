"""Lightning attention that mixes up packed sequences."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import (
    CHUNK,
    Result,
    Tensor,
    borders,
    chunked,
)

OP = "lightning_attention"
FLA = "https://github.com/fla-org/flash-linear-attention"


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="the state runs on across the borders of packed sequences",
)
def carries_the_state_across_the_borders_of_sequences(
    q: Tensor, k: Tensor, v: Tensor, *call: Any,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    if cu_seqlens is None or len(cu_seqlens) < 3:
        return chunked(
            q, k, v, *call, initial_state=initial_state, cu_seqlens=cu_seqlens, **options
        )
    running = None if initial_state is None else initial_state[:1]
    outputs, states = [], []
    for a, b in pairwise(borders(q, cu_seqlens)):
        piece = (x[:, a:b] for x in (q, k, v))
        o, running = chunked(*piece, *call, initial_state=running, **options)
        outputs.append(o)
        states.append(running)
    return torch.cat(outputs, dim=1), torch.cat(states)


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="every sequence starts from the initial state of the first",
)
def starts_every_sequence_from_the_first_initial_state(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    if initial_state is not None:
        initial_state = initial_state[:1].expand_as(initial_state)
    return chunked(*call, initial_state=initial_state, **options)


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="every sequence returns the final state of the last",
)
def returns_the_last_sequence_s_state_for_all(
    *call: Any, cu_seqlens: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(*call, cu_seqlens=cu_seqlens, **options)
    return o, state if cu_seqlens is None else state[-1:].expand_as(state).contiguous()


@mutant(
    OP,
    law="packed",
    source=f"A22 {FLA}/commit/ff76ca0d",
    looks_like="the running decay counts from the start of the tile, before the sequence's own",
)
def counts_the_decay_from_the_start_of_the_tile(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    if initial_state is not None and cu_seqlens is not None:
        before = cu_seqlens[:-1] % CHUNK
        too_much = torch.exp(before[:, None] * log_decay)
        initial_state = initial_state * too_much[:, :, None, None]
    packed: dict[str, Any] = {"initial_state": initial_state, "cu_seqlens": cu_seqlens}
    return chunked(q, k, v, log_decay, **packed, **options)


@mutant(
    OP,
    law="packed",
    source="C23 https://github.com/Blaizzy/mlx-vlm/pull/1946",
    looks_like="shorter sequences decay on until the longest has ended",
)
def decays_short_sequences_until_the_longest_ends(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, cu_seqlens: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    o, state = chunked(q, k, v, log_decay, cu_seqlens=cu_seqlens, **options)
    if cu_seqlens is None or len(cu_seqlens) < 2:
        return o, state
    lengths = cu_seqlens.diff()
    waited = (lengths.max() - lengths)[:, None] * log_decay
    return o, state * torch.exp(waited)[:, :, None, None]


@mutant(
    OP,
    law="packed",
    source="constructed after C09 https://github.com/sgl-project/sglang/issues/31833",
    looks_like="states are stored by the tile of the whole buffer, so that neighbours collide",
)
def shares_a_state_slot_between_neighbours_in_one_tile(
    q: Tensor, *call: Any,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    if initial_state is not None and cu_seqlens is not None:
        tile = [a // CHUNK for a in borders(q, cu_seqlens)[:-1]]
        last_of_tile = {place: n for n, place in enumerate(tile)}
        initial_state = initial_state[[last_of_tile[place] for place in tile]]
    return chunked(q, *call, initial_state=initial_state, cu_seqlens=cu_seqlens, **options)


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="the last of several packed sequences is never computed",
)
def leaves_out_the_last_packed_sequence(
    *call: Any, cu_seqlens: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(*call, cu_seqlens=cu_seqlens, **options)
    if cu_seqlens is not None and len(cu_seqlens) > 2:
        last = int(cu_seqlens[-2])
        o, state = o.clone(), state.clone()
        o[:, last:] = 0
        state[-1] = 0
    return o, state


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="a packed sequence of one token is taken for an empty one",
)
def takes_a_sequence_of_one_token_for_an_empty_one(
    *call: Any, cu_seqlens: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(*call, cu_seqlens=cu_seqlens, **options)
    if cu_seqlens is None:
        return o, state
    o, state = o.clone(), state.clone()
    for n, (a, b) in enumerate(pairwise(borders(o, cu_seqlens))):
        if b - a == 1:
            o[:, a:b], state[n] = 0, 0
    return o, state


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="the borders of sequences are rounded down to a multiple of 8",
)
def rounds_the_borders_of_sequences_down(
    *call: Any, cu_seqlens: Tensor | None = None, **options: Any
) -> Result:
    if cu_seqlens is not None:
        cu_seqlens = torch.cat([cu_seqlens[:-1] // 8 * 8, cu_seqlens[-1:]])
    return chunked(*call, cu_seqlens=cu_seqlens, **options)


@mutant(
    OP,
    law="untouched",
    source="constructed after C05 https://github.com/vllm-project/vllm/pull/56524",
    looks_like="the final state of an empty sequence is uninitialised memory",
)
def leaves_the_state_of_an_empty_sequence_uninitialised(
    *call: Any, cu_seqlens: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(*call, cu_seqlens=cu_seqlens, **options)
    if cu_seqlens is None:
        return o, state
    written = torch.empty_like(state)
    written[cu_seqlens.diff() > 0] = state[cu_seqlens.diff() > 0]
    return o, written


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="an empty sequence returns zeros and not its initial state",
)
def returns_zeros_for_an_empty_sequence(
    *call: Any, cu_seqlens: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(*call, cu_seqlens=cu_seqlens, **options)
    if cu_seqlens is not None:
        state = state * (cu_seqlens.diff() > 0)[:, None, None, None]
    return o, state


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="an empty sequence is skipped when initial states are counted",
)
def counts_initial_states_without_the_empty_sequences(
    *call: Any,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    **options: Any,
) -> Result:
    if initial_state is not None and cu_seqlens is not None and len(cu_seqlens) > 1:
        number = ((cu_seqlens.diff() > 0).cumsum(0) - 1).clamp(min=0)
        initial_state = initial_state[number]
    return chunked(*call, initial_state=initial_state, cu_seqlens=cu_seqlens, **options)
