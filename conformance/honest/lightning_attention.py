"""Right lightning attention in many forms.

Roundings are taken only where bf16-tc and fp16-tc allow them: `narrow` rounds an operand of a
matrix product once to the dtype of the inputs, and is exact for float32 and float64 inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._lightning import (
    Result,
    Steps,
    Tensor,
    by_chunk,
    by_sequence,
    chunked,
    distances,
    keep,
    one_chunk,
    pair,
    read,
    recurrent,
    start_state,
    steps,
    write,
)
from lingspec.conformance.mutants._lightning_backward import two_pass

OP = "lightning_attention"


def narrow(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """One rounding to ``dtype``, back in the dtype of the argument."""

    def rounding(x: Tensor) -> Tensor:
        return x.to(dtype).to(x.dtype)

    return rounding


@honest(OP, backward=True, differs="the recurrence in float32, differentiated by autograd")
def runs_token_by_token(*call: Any, **options: Any) -> Result:
    return recurrent(*call, **options)


@honest(OP, backward=True, differs="chunks of 64, float32 inside, differentiated by autograd")
def runs_in_chunks_of_64(*call: Any, **options: Any) -> Result:
    return chunked(*call, **options)


@honest(OP, differs="chunks of 16; every operand of a product is rounded, the carried state is not")
def rounds_every_operand_in_chunks_of_16(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=16, operand=narrow(q.dtype))


@honest(OP, backward=True, differs="chunks of 32; the backward pass is written by hand, float32")
def differentiates_by_hand_in_chunks_of_32(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, chunk=32)


@honest(OP, differs="chunks of 48, which divide no usual length; the scores alone are rounded")
def rounds_the_scores_in_chunks_of_48(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=48, scores=narrow(q.dtype))


@honest(OP, differs="chunks of 64; every operand of a product is rounded")
def rounds_every_operand_in_chunks_of_64(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, operand=narrow(q.dtype))


@honest(OP, differs="chunks of 100")
def runs_in_chunks_of_100(*call: Any, **options: Any) -> Result:
    return chunked(*call, **options, chunk=100)


@honest(OP, differs="chunks of 128; every operand of a product is rounded")
def rounds_every_operand_in_chunks_of_128(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=128, operand=narrow(q.dtype))


@honest(OP, backward=True, differs="chunks of 256 and a backward pass by hand in chunks of 256")
def runs_in_chunks_of_256(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, chunk=256)


@honest(OP, differs="one chunk as long as the sequence: the closed form over all pairs")
def sums_over_all_pairs_at_once(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=max(1, q.shape[1]))


@honest(OP, differs="float64 inside, one rounding at the end")
def computes_in_float64_and_rounds_once(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    wide = (x.double() for x in (q, k, v, log_decay))
    start = None if initial_state is None else initial_state.double()
    o, state = chunked(*wide, initial_state=start, **options)
    return o.to(q.dtype), state.to(log_decay.dtype)


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


@honest(OP, differs="the decay to the end of the chunk is folded into v, not into k; v is rounded")
def folds_the_decay_into_the_values(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    factor = narrow(q.dtype)

    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        dtype, g = q.dtype, log_decay.to(S.dtype)
        outputs = [v[:, :0]]
        for start in range(0, q.shape[1], 64):
            here = slice(start, start + 64)
            q_c, k_c, v_c = (x[:, here].to(S.dtype).transpose(1, 2) for x in (q, k, v))
            C = q_c.shape[2]
            added = k_c.mT @ factor(v_c * write(g, C)[:, :, None])
            o, _ = one_chunk(q_c, k_c, v_c, S, g, scale, Steps(operand=factor))
            S = keep(g, C)[:, None, None] * S + added
            outputs.append(o.transpose(1, 2).to(dtype))
        return torch.cat(outputs, dim=1), S

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@honest(OP, differs="the decay is folded into q, which is rounded, before it reads the state")
def folds_the_decay_into_the_queries(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    factor = narrow(q.dtype)
    without_state = Steps(read=lambda g, C: 0 * read(g, C))

    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        g, dtype = log_decay.to(S.dtype), q.dtype
        outputs = [v[:, :0]]
        for start in range(0, q.shape[1], 32):
            here = slice(start, start + 32)
            q_c, k_c, v_c = (x[:, here].to(S.dtype).transpose(1, 2) for x in (q, k, v))
            decayed = factor(q_c * read(g, q_c.shape[2])[:, :, None])
            from_state = decayed @ factor(S) * scale
            within, S = one_chunk(q_c, k_c, v_c, S, g, scale, without_state)
            outputs.append((within + from_state).transpose(1, 2).to(dtype))
        return torch.cat(outputs, dim=1), S

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@honest(OP, differs="q is multiplied by the scale and rounded before anything else")
def scales_and_rounds_the_queries_first(
    q: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    wide = torch.promote_types(q.dtype, torch.float32)
    return chunked((q.to(wide) * scale).to(q.dtype), *call, scale=1.0, **options, chunk=32)


@honest(OP, differs="decays are powers of two: exp2 of the log decay over ln 2")
def decays_with_exp2(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:  # fmt: skip
    def pair2(g: Tensor, C: int) -> Tensor:
        distance = distances(C, g)
        return torch.exp2(per_two(g)[:, None, None] * distance.clamp(min=0)) * (distance >= 0)

    def per_two(g: Tensor) -> Tensor:
        return (g.double() / math.log(2)).to(g.dtype)

    return chunked(
        q, k, v, log_decay, **options,
        pair=pair2,
        read=lambda g, C: torch.exp2(per_two(g)[:, None] * (steps(C, g) + 1)),
        keep=lambda g, C: torch.exp2(per_two(g) * C),
        write=lambda g, C: torch.exp2(per_two(g)[:, None] * (C - 1 - steps(C, g))),
    )  # fmt: skip


@honest(OP, differs="powers of the decay are running products of the decay of one step")
def multiplies_the_decay_up_step_by_step(*call: Any, **options: Any) -> Result:
    def powers(g: Tensor, n: int) -> Tensor:
        once = torch.exp(g)[:, None].expand(-1, n)
        return torch.cat([torch.ones_like(g)[:, None], once.cumprod(1)], dim=1)  # (H, n + 1)

    def pair_of_powers(g: Tensor, C: int) -> Tensor:
        distance = distances(C, g)
        return powers(g, C)[:, distance.clamp(min=0).long()] * (distance >= 0)

    return chunked(
        *call, **options, chunk=32,
        pair=pair_of_powers,
        read=lambda g, C: powers(g, C)[:, 1:],
        keep=lambda g, C: powers(g, C)[:, -1],
        write=lambda g, C: powers(g, C)[:, :-1].flip(1),
    )  # fmt: skip


@honest(OP, differs="heads whose state decays to less than the smallest number keep no state")
def drops_states_that_decay_to_nothing(*call: Any, **options: Any) -> Result:
    def or_nothing(weight: Tensor) -> Tensor:
        return torch.where(weight < torch.finfo(weight.dtype).tiny, 0, weight)

    return chunked(
        *call, **options,
        pair=lambda g, C: or_nothing(pair(g, C)),
        read=lambda g, C: or_nothing(read(g, C)),
        keep=lambda g, C: or_nothing(keep(g, C)),
        write=lambda g, C: or_nothing(write(g, C)),
    )  # fmt: skip


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


@honest(OP, differs="chunks of one token; k, v and the state as read are rounded")
def runs_in_chunks_of_one_token(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=1, operand=narrow(q.dtype))
