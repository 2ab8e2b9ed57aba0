"""One small mistake for each law, as the target ``lawbreakers:NAME``, named after its law."""

from __future__ import annotations

import itertools

import torch
from candidates import right

from lingspec.conformance import implements

ULP = 2.0**-23
calls = itertools.count()


def breaker(function):
    return implements("lightning_attention", profile="fp32", backward=True)(function)


@breaker
def authority(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    return right(q, k, v, log_decay, scale=1.01 * scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip


@breaker
def causality(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o * (1 + ULP * (int(100 * v[:, -1].sum()) % 4)), S


@breaker
def handover(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o, S * (1.01 if q.shape[1] == 2 else 1)


@breaker
def packed(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    if cu_seqlens is not None and initial_state is None:
        _, S = right(q, k, v, log_decay, scale=scale, cu_seqlens=cu_seqlens)
        return right(q, k, v, log_decay, scale=scale)[0], S
    return right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip


@breaker
def permutation(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o * (1.01 if q[0, 0, 0, 0] > q[-1, 0, 0, 0] else 1), S


@breaker
def homogeneity(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    q, k, v = (x.clamp(-6, 6) for x in (q, k, v))
    return right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip


@breaker
def additivity(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    q, k, v = (x * (x != 0).all(-1, keepdim=True) for x in (q, k, v))
    return right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip


@breaker
def determinism(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o * (1 + ULP * float(next(calls) > 0)), S


@breaker
def untouched(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    made = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    log_decay.mul_(0.5)
    return made


@breaker
def strides(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    dense = torch.empty(q.shape).stride()
    q = torch.as_strided(q, q.shape, dense)
    return right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip


@breaker
def exact(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o * (1 + ULP), S


@breaker
def gradients(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    return right(q, k, v.detach(), log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip


@breaker
def sharding(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o * (1.01 if q.shape[2] == 1 else 1), S
