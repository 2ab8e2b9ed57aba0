"""Right lightning attention that splits its work, or sums it, in another order."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.lightning_attention import narrow
from lingspec.conformance.mutants._lightning import (
    Result,
    Steps,
    Tensor,
    by_chunk,
    by_sequence,
    chunked,
    keep,
    read,
    recurrent,
    start_state,
)

OP = "lightning_attention"


@honest(OP, differs="the value columns are computed in blocks of 16")
def splits_the_value_columns(
    q: Tensor, k: Tensor, v: Tensor, *call: Any,
    initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    blocks = torch.split(v, 16, dim=-1)
    starts = (
        [None] * len(blocks) if initial_state is None else torch.split(initial_state, 16, dim=-1)
    )  # fmt: skip
    parts = [
        chunked(q, k, block, *call, initial_state=start, operand=narrow(q.dtype), **options)
        for block, start in zip(blocks, starts, strict=True)
    ]
    return torch.cat([o for o, _ in parts], dim=-1), torch.cat([S for _, S in parts], dim=-1)


@honest(
    OP, differs="the key dimension is split in blocks of 24, whose outputs are added in float32"
)
def splits_the_key_dimension(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    dtype, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
    q, k, v = (x.to(wide) for x in (q, k, v))
    o, states = torch.zeros_like(v), []
    for first in range(0, q.shape[-1], 24):
        some = slice(first, first + 24)
        start = None if initial_state is None else initial_state[:, :, some]
        part, S = chunked(
            q[..., some], k[..., some], v, log_decay, initial_state=start, **options
        )  # fmt: skip
        o = o + part
        states.append(S)
    return o.to(dtype), torch.cat(states, dim=2)


@honest(OP, differs="the key dimension is summed in reverse order")
def sums_the_key_dimension_backwards(
    q: Tensor, k: Tensor, *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    start = None if initial_state is None else initial_state.flip(2)
    o, state = recurrent(q.flip(-1), k.flip(-1), *call, initial_state=start, **options)
    return o, state.flip(2)


@honest(OP, differs="the key dimension is summed in reverse order where q is not contiguous")
def sums_what_is_not_contiguous_backwards(q: Tensor, *call: Any, **options: Any) -> Result:
    if q.is_contiguous():
        return chunked(q, *call, **options)
    return sums_the_key_dimension_backwards(q, *call, **options)


@honest(
    OP, differs="outputs are summed from the nearest token to the farthest, distance by distance"
)
def sums_from_the_nearest_token_to_the_farthest(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        T, g = q.shape[1], log_decay.to(S.dtype)
        dtype, (q, k, v) = q.dtype, (x.to(S.dtype) for x in (q, k, v))
        o = torch.zeros_like(v)
        final = torch.zeros_like(S)
        for d in range(T):
            weight = torch.exp(g * d)[:, None]
            nearby = (q[:, d:] * k[:, : T - d]).sum(-1, keepdim=True) * v[:, : T - d]
            o[:, d:] += scale * weight * nearby
            k_d, v_d = k[:, T - 1 - d], v[:, T - 1 - d]
            final += weight[..., None] * k_d[..., :, None] * v_d[..., None, :]
        from_start = torch.einsum("bthk,bhkv->bthv", q, S) * read(g, T).T[:, :, None]
        return (o + scale * from_start).to(dtype), final + keep(g, T)[:, None, None] * S

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@honest(OP, differs="the states of all chunks are combined by doubling, not one after another")
def combines_the_states_of_chunks_by_doubling(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    fixed: dict[str, Any] = {"log_decay": log_decay, "scale": scale, "chunk": 16, "line": Steps()}

    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        T, g = q.shape[1], log_decay.to(S.dtype)
        if not T:
            return v.to(q.dtype), S
        pieces = list(zip(*(torch.split(x, 16, dim=1) for x in (q, k, v)), strict=True))
        zero = torch.zeros_like(S)
        after = [by_chunk(q_c, k_c, v_c, zero, **fixed)[1] for q_c, k_c, v_c in pieces]
        ends = [min(T, 16 * (n + 1)) for n in range(len(pieces))]
        reach = 1
        while reach < len(pieces):
            after = [
                S_n if n < reach else
                S_n + keep(g, ends[n] - ends[n - reach])[:, None, None] * after[n - reach]
                for n, S_n in enumerate(after)
            ]  # fmt: skip
            reach *= 2
        after = [
            S_n + keep(g, end)[:, None, None] * S for S_n, end in zip(after, ends, strict=True)
        ]
        before = [S, *after[:-1]]
        outputs = [
            by_chunk(q_c, k_c, v_c, S_n, **fixed)[0]
            for (q_c, k_c, v_c), S_n in zip(pieces, before, strict=True)
        ]
        return torch.cat(outputs, dim=1), after[-1]

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@honest(OP, backward=True, differs="packed sequences run side by side, padded to the longest")
def pads_packed_sequences_to_the_longest(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    if cu_seqlens is None or not q.shape[1]:
        return chunked(
            q, k, v, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens
        )
    first, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    place = torch.arange(int(lengths.max()), device=q.device)
    inside = place < lengths[:, None]  # (N, longest)
    padded = torch.where(inside, first[:, None] + place, 0)
    a = torch.exp(log_decay)[:, None, None]
    S = start_state(q, v, initial_state, len(lengths))
    q_n, k_n, v_n = (x[0][padded].to(S.dtype) for x in (q, k, v))
    outputs = []
    for t in range(len(place)):
        step = a * S + k_n[:, t, :, :, None] * v_n[:, t, :, None, :]
        S = torch.where(inside[:, t, None, None, None], step, S)
        outputs.append(scale * (q_n[:, t, :, :, None] * S).sum(-2))
    return torch.stack(outputs, dim=1)[inside].to(q.dtype)[None], S


@honest(OP, differs="the recurrence with the state stored as [V, K] and read by a matrix product")
def stores_the_state_as_values_by_keys(*call: Any, **options: Any) -> Result:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        transposed = (a * S).mT.contiguous() + v[..., :, None] @ k[..., None, :]
        return (transposed @ (q * scale)[..., :, None]).squeeze(-1), transposed.mT.contiguous()

    return recurrent(*call, **options, token=token)
