"""Second formulations of Lightning attention, held to the recurrence by tests, and its gradients.

Letters: B batch, T tokens, N sequences, H heads, K key dim, V value dim; S the memory, G its
cotangent, t and j tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.ops.lightning_attention import (
    by_sequence,
    check_arguments,
    initial,
    sequences,
)
from lingspec.reference.precision import work
from lingspec.reference.rounding import at

__all__ = [
    "lightning_attention_backward",
    "lightning_attention_backward_closed",
    "lightning_attention_chunked",
    "lightning_attention_closed",
]

Backward = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def lightning_attention_closed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same, without a memory: every token looks at every earlier one. O(T^2).

        o_t = sum_{j <= t} P_tj v_j + scale exp(log_decay t) S_0^T q_t
        P_tj = scale (q_t . k_j) exp(log_decay (t - j))

    with t counted from 1 in the last term. Arguments and results as `lightning_attention`.
    """
    return by_sequence(_closed, q, k, v, log_decay, scale, initial_state, cu_seqlens)


def lightning_attention_chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    chunk: int = 64,
    into: str = "k",
) -> tuple[Tensor, Tensor]:
    """The same, ``chunk`` tokens at a time: the closed form inside, the memory between.

    This is how fast implementations compute it; ``into`` says which of k and v is multiplied by
    the decay to the end of its chunk, before their product. Other arguments and results as
    `lightning_attention`.
    """
    require(chunk >= 1, "chunk", "value", chunk, "an integer >= 1")
    require(into in ("k", "v"), "into", "value", into, "k or v")

    def chunked(
        q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: float, S: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = []
        for first in range(0, q.shape[1], chunk):
            part = slice(first, first + chunk)
            o, S = _closed(q[:, part], k[:, part], v[:, part], log_decay, scale, S, into)
            rows.append(o)
        return (torch.cat(rows, dim=1) if rows else v), S

    return by_sequence(chunked, q, k, v, log_decay, scale, initial_state, cu_seqlens)


def _closed(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: float, S: Tensor, into: str = "k"
) -> tuple[Tensor, Tensor]:
    if q.shape[1] == 0:
        return v, S
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, K or V)
    among, from_start, to_end, whole = _decays(log_decay, q.shape[2])

    scores = at("product", at("q", q) @ at("k", k).mT) * among  # (B, H, T, T)
    before = at("product", at("q", q) @ at("state_read", S)) * from_start  # (B, H, T, V)
    o = at("product", at("scores", scores * scale) @ at("v", v)) + before * scale
    keys, values = (k * to_end, v) if into == "k" else (k, v * to_end)
    S = at("state", whole * S + at("product", at("k", keys).mT @ at("v", values)))
    return o.transpose(1, 2), S


def _decays(log_decay: Tensor, T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """exp(log_decay n): among tokens (H, T, T), from S_0, to S_T (H, T, 1), whole (H, 1, 1)."""
    t = torch.arange(T, dtype=log_decay.dtype, device=log_decay.device)[:, None]
    g = log_decay[:, None, None]
    since = t - t.mT  # (T, T)
    among = torch.where(since >= 0, g * since.clamp(min=0), -torch.inf)
    exponents = (among, g * (t + 1), g * (T - 1 - t), g * T)
    among, from_start, to_end, whole = (at("decay", x.exp()) for x in exponents)
    return among, from_start, to_end, whole


def lightning_attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    do: Tensor,
    dfinal_state: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `lightning_attention`, as recurrences.

    With G the cotangent of the memory, which runs backwards from ``dfinal_state``:

        G_t = scale q_t do_t^T + exp(log_decay) G_{t+1}      (no decay of dfinal_state at t = T)
        dq_t = scale S_t do_t,  dk_t = G_t v_t,  dv_t = G_t^T k_t,  dS_0 = exp(log_decay) G_1

    ``do`` (B, T, H, V), dtype of ``q``, is the cotangent of o; ``dfinal_state`` (N, H, K, V)
    float32 that of the final state; the other arguments are those of `lightning_attention`.

    Returns:
        dq, dk, dv (dtype of ``q``) and dinitial_state (N, H, K, V) float32; the last is returned
        also where there is no initial state, as the cotangent of the 0 in its place.

    Precision:
        As `lightning_attention`.
    """
    return _backward_by_sequence(
        _backward, q, k, v, log_decay, do, dfinal_state, scale, initial_state, cu_seqlens
    )


def lightning_attention_backward_closed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    do: Tensor,
    dfinal_state: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    into: tuple[str, ...] = ("q",),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same, without a memory, O(T^2); t counted from 1, m = T - t.

        dP_tj = scale (do_t . v_j) exp(log_decay (t - j)),  P as in `lightning_attention_closed`
        dq_t = sum_{j <= t} dP_tj k_j + scale exp(log_decay t) S_0 do_t
        dk_j = sum_{t >= j} dP_tj q_t + exp(log_decay m) dS_T v_j
        dv_j = sum_{t >= j} P_tj do_t + exp(log_decay m) dS_T^T k_j
        dS_0 = sum_t scale exp(log_decay t) q_t do_t^T + exp(log_decay T) dS_T

    ``into`` names the operands that are multiplied by the decay from or to a state before their
    product, not after it: one of q and do, which meet in dS_0, and any of k and v. Other arguments
    and results as `lightning_attention_backward`.
    """
    known = set(into) <= {"q", "k", "v", "do"} and ("q" in into) != ("do" in into)
    require(known, "into", "value", into, "either q or do, and any of k and v")
    backward = functools.partial(_backward_closed, into=into)
    return _backward_by_sequence(
        backward, q, k, v, log_decay, do, dfinal_state, scale, initial_state, cu_seqlens
    )


def _backward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: float, S: Tensor, do: Tensor,
    G: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    T = q.shape[1]
    q, k, v, do = at("q", q), at("k", k), at("v", v), at("do", do)
    decay = at("decay", log_decay.exp())[:, None, None]  # (H, 1, 1)
    dq, dk, dv = [], [], []
    for t in range(T):
        written = at("product", k[:, t, :, :, None] * v[:, t, :, None, :])  # (B, H, K, V)
        S = at("state", decay * S + written)
        read = (at("state_read", S) * do[:, t, :, None, :]).sum(dim=-1)  # (B, H, K)
        dq.append(scale * at("product", read))
    for t in reversed(range(T)):
        written = at("product", q[:, t, :, :, None] * do[:, t, :, None, :])  # (B, H, K, V)
        G = at("state", G + scale * written)
        read = at("state_read", G)
        dk.append(at("product", (read * v[:, t, :, None, :]).sum(dim=-1)))
        dv.append(at("product", (read * k[:, t, :, :, None]).sum(dim=-2)))
        G = decay * G
    if T == 0:
        return q, k, v, G
    return torch.stack(dq, dim=1), torch.stack(dk[::-1], dim=1), torch.stack(dv[::-1], dim=1), G


def _backward_closed(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: float, S: Tensor, do: Tensor,
    G: Tensor, *, into: tuple[str, ...],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    def decayed(name: str, x: Tensor, factor: Tensor, state: Tensor) -> Tensor:
        if name in into:
            return at("product", at(name, x * factor) @ state)
        return at("product", at(name, x) @ state) * factor

    if q.shape[1] == 0:
        return q, k, v, G
    q, k, v, do = (x.transpose(1, 2) for x in (q, k, v, do))  # (B, H, T, K or V)
    among, from_start, to_end, whole = _decays(log_decay, q.shape[2])
    kept, seen = at("state_read", S), at("state_read", G)

    scores = at("scores", at("product", at("q", q) @ at("k", k).mT) * among * scale)  # (B, H, T, T)
    dscores = at("scores", at("product", at("do", do) @ at("v", v).mT) * among * scale)
    reads = from_start * scale
    dq = at("product", dscores @ at("k", k)) + decayed("do", do, reads, kept.mT)
    dk = at("product", dscores.mT @ at("q", q)) + decayed("v", v, to_end, seen.mT)
    dv = at("product", scores.mT @ at("do", do)) + decayed("k", k, to_end, seen)
    read_by, returned = (q * reads, do) if "q" in into else (q, do * reads)
    dS = at("product", at("q", read_by).mT @ at("do", returned)) + whole * G
    return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2), dS


def _backward_by_sequence(
    backward: Backward, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, do: Tensor,
    dfinal_state: Tensor, scale: float, initial_state: Tensor | None, cu_seqlens: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    check_arguments(q, k, v, log_decay, initial_state, cu_seqlens)
    parts = []
    for tokens, rows in sequences(q, cu_seqlens):
        S = at("state", initial(q, v, initial_state, rows))
        now = [work(x[:, tokens]) for x in (q, k, v)]
        G = at("state", work(dfinal_state[rows]))
        parts.append(backward(*now, work(log_decay), scale, S, work(do[:, tokens]), G))
    dq, dk, dv, dS = zip(*parts, strict=True)
    of_tokens = (torch.cat(x, dim=1).to(q.dtype) for x in (dq, dk, dv))
    return (*of_tokens, torch.cat(dS, dim=0))  # type: ignore[return-value] # three from of_tokens
