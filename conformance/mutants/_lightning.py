"""Right implementations of the three lightning ops, and the lines of them that mutants replace.

B batch, T tokens, N sequences, H heads, K key dim, V value dim, C tokens of one chunk, P pool rows.
Everything is computed in float32 (float64 where the inputs are); only o is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor]
Run = Callable[[Tensor, Tensor, Tensor, Tensor], Result]  # q, k, v, S of equal lengths -> o, S

CHUNK = 64


def state_dtype(q: Tensor) -> torch.dtype:
    """The dtype of states and of all arithmetic."""
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def steps(C: int, like: Tensor) -> Tensor:
    """0, 1, ..., C - 1."""
    return torch.arange(C, dtype=like.dtype, device=like.device)


def distances(C: int, like: Tensor) -> Tensor:
    """How far query i is behind key j, i - j: (C, C)."""
    return steps(C, like)[:, None] - steps(C, like)


def pair(g: Tensor, C: int) -> Tensor:
    """Weight of key j for query i of one chunk: (H, C, C)."""
    distance = distances(C, g)
    return torch.exp(g[:, None, None] * distance.clamp(min=0)) * (distance >= 0)


def read(g: Tensor, C: int) -> Tensor:
    """Weight of the chunk's initial state for query i: (H, C)."""
    return torch.exp(g[:, None] * (steps(C, g) + 1))


def keep(g: Tensor, C: int) -> Tensor:
    """Weight of the chunk's initial state in its final state: (H,)."""
    return torch.exp(g * C)


def write(g: Tensor, C: int) -> Tensor:
    """Weight of token j in the chunk's final state: (H, C)."""
    return torch.exp(g[:, None] * (C - 1 - steps(C, g)))


def unchanged(x: Tensor) -> Tensor:
    """What no rounding does."""
    return x


@dataclass(frozen=True)
class Steps:
    """The lines of the chunked form that can be replaced."""

    pair: Callable[[Tensor, int], Tensor] = pair
    read: Callable[[Tensor, int], Tensor] = read
    keep: Callable[[Tensor, int], Tensor] = keep
    write: Callable[[Tensor, int], Tensor] = write
    operand: Callable[[Tensor], Tensor] = unchanged  # every factor of a matrix product
    scores: Callable[[Tensor], Tensor] = unchanged  # of a chunk, decayed
    carry: Callable[[Tensor], Tensor] = unchanged  # the state, from chunk to chunk


def one_chunk(
    q: Tensor, k: Tensor, v: Tensor, S: Tensor, g: Tensor, scale: float, line: Steps
) -> Result:
    """Advance (B, H, C, .) by one chunk from the state (B, H, K, V)."""
    C = q.shape[2]
    factor = line.operand
    scores = line.scores((factor(q) @ factor(k).mT) * scale * line.pair(g, C))
    o = factor(scores) @ factor(v)
    o = o + (factor(q) @ factor(S)) * (scale * line.read(g, C)[:, :, None])
    added = factor(k * line.write(g, C)[:, :, None]).mT @ factor(v)
    return o, line.keep(g, C)[:, None, None] * S + added


def by_chunk(
    q: Tensor, k: Tensor, v: Tensor, S: Tensor,
    *, log_decay: Tensor, scale: float, chunk: int, line: Steps,
) -> Result:  # fmt: skip
    """The chunked form for sequences of one length."""
    dtype, g = q.dtype, log_decay.to(S.dtype)
    q, k, v = (x.to(S.dtype).transpose(1, 2) for x in (q, k, v))  # (B, H, T, .)
    outputs = [v[:, :, :0]]
    for start in range(0, q.shape[2], chunk):
        here = slice(start, start + chunk)
        o, S = one_chunk(q[:, :, here], k[:, :, here], v[:, :, here], S, g, scale, line)
        S = line.carry(S)
        outputs.append(o)
    return torch.cat(outputs, dim=2).transpose(1, 2).to(dtype).contiguous(), S


def start_state(q: Tensor, v: Tensor, initial_state: Tensor | None, sequences: int) -> Tensor:
    """A fresh copy of the initial state, zeros without one."""
    if initial_state is not None:
        return initial_state.clone()
    return torch.zeros(
        sequences, *q.shape[2:], v.shape[3], dtype=state_dtype(q), device=q.device
    )  # fmt: skip


def borders(q: Tensor, cu_seqlens: Tensor | None) -> Sequence[int]:
    """Where the packed sequences begin and end; empty without packing."""
    return [] if cu_seqlens is None else [int(end) for end in cu_seqlens.tolist()]


def by_sequence(
    run: Run, q: Tensor, k: Tensor, v: Tensor,
    initial_state: Tensor | None, cu_seqlens: Tensor | None,
) -> Result:  # fmt: skip
    """Apply ``run`` to the batch, or to each packed sequence."""
    ends = borders(q, cu_seqlens)
    S = start_state(q, v, initial_state, len(ends) - 1 if ends else q.shape[0])
    if not ends:
        return run(q, k, v, S)
    outputs, states = [v[:, :0].to(q.dtype)], [S[:0]]
    for n, (a, b) in enumerate(pairwise(ends)):
        o, final = run(q[:, a:b], k[:, a:b], v[:, a:b], S[n : n + 1])
        outputs.append(o)
        states.append(final)
    return torch.cat(outputs, dim=1), torch.cat(states)


def chunked(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, scale: float, initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
    chunk: int = CHUNK, **lines: Any,
) -> Result:  # fmt: skip
    """Lightning attention chunk by chunk; ``lines`` replaces fields of `Steps`."""
    run = partial(by_chunk, log_decay=log_decay, scale=scale, chunk=chunk, line=Steps(**lines))
    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


Token = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Result]


def one_token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
    """Advance (B, H, .) by one token; ``a`` is the decay, (H, 1, 1)."""
    S = a * S + k[..., :, None] * v[..., None, :]
    return scale * (q[..., :, None] * S).sum(-2), S


def by_token(
    q: Tensor, k: Tensor, v: Tensor, S: Tensor, *, log_decay: Tensor, scale: float, token: Token
) -> Result:
    """The recurrence for sequences of one length."""
    dtype, a = q.dtype, torch.exp(log_decay.to(S.dtype))[:, None, None]
    q, k, v = (x.to(S.dtype) for x in (q, k, v))
    outputs = [v[:, :0]]
    for t in range(q.shape[1]):
        o, S = token(q[:, t], k[:, t], v[:, t], S, a, scale)
        outputs.append(o[:, None])
    return torch.cat(outputs, dim=1).to(dtype), S


def recurrent(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, scale: float, initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
    token: Token = one_token,
) -> Result:  # fmt: skip
    """Lightning attention token by token; ``token`` replaces the step."""
    run = partial(by_token, log_decay=log_decay, scale=scale, token=token)
    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


def decode(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float, token: Token = one_token,
) -> Tensor:  # fmt: skip
    """One token of every request, the states in ``state_pool[slots]``."""
    live = slots >= 0
    rows = slots[live].long()
    a = torch.exp(log_decay.to(state_pool.dtype))[:, None, None]
    q, k, v, dtype = *(x[live].to(state_pool.dtype) for x in (q, k, v)), q.dtype
    read_out, S = token(q, k, v, state_pool[rows], a, scale)
    state_pool[rows] = S
    o = torch.zeros(slots.shape[0], *v.shape[1:], dtype=dtype, device=v.device)
    o[live] = read_out.to(dtype)
    return o


def power_of_two_slopes(heads: float) -> list[float]:
    """ALiBi's slopes by its plain formula, whatever the number of heads."""
    first: float = 2 ** (-(2 ** -(math.log2(heads) - 3)))
    return [first * first**i for i in range(int(heads))]


def head_slopes(heads: int) -> list[float]:
    """ALiBi's slopes."""
    below = 2 ** math.floor(math.log2(heads))
    extra = power_of_two_slopes(2 * below)[0::2][: heads - below]
    return power_of_two_slopes(below) + extra


def layer_factor(layer: int, layers: int, origin: int) -> float:
    """What a layer multiplies its slopes by."""
    return 1 - (layer - origin) / (layers - 1) + 1e-5


def slopes_times_factor(slopes: Sequence[float], factor: float) -> Tensor:
    """The negative product in float32, both factors rounded to float32 first."""
    return -(torch.tensor(slopes, dtype=torch.float32) * torch.tensor(factor, dtype=torch.float32))


def log_decay(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    """The decay exponents of one layer."""
    return slopes_times_factor(head_slopes(heads), layer_factor(layer, layers, origin))
