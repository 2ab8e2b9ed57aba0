"""One small mistake for each law, as the target ``lawbreakers:NAME``, named after its law."""

from __future__ import annotations

import itertools

import torch
from candidates import right

from lingspec.conformance import implements
from lingspec.conformance.mutants import _mla, _rows

ULP = 2.0**-23
calls = itertools.count()
seen = []  # the shapes of the calls so far


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
def scale(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o * (1.01 if q.shape[1] > 64 else 1), S


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


@breaker
def bias(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    wide = [x.float() for x in (q, k, v)]
    o, S = right(*wide, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens)
    up, down = (torch.nextafter(o.to(q.dtype), torch.full_like(q[..., :1], x)) for x in (9e9, -9e9))
    nearer = torch.where(o > 0, down, up)  # toward zero, where that is nearly as near
    inside = (nearer.float() - o).abs() < 0.95 * 2.0**-8 * o.abs()
    return torch.where(inside, nearer, o.to(q.dtype)), S


@breaker
def shapes(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    seen.append(q.shape)
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o * (1 + ULP * float(len(set(seen)) > 1)), S


@breaker
def sequences(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    seen.append(q.shape)
    o, S = right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)  # fmt: skip
    return o, S * (1.01 if len(seen) > 7 else 1)


def router(change):
    def routed(logits, bias, *, groups, top_groups, top_k, scaling):
        return change(logits, bias, groups, top_groups, top_k, scaling)

    return implements("moe_route", profile="fp32")(routed)


def chosen(logits, bias, groups, top_groups, top_k, scaling):
    scores = torch.sigmoid(logits)
    biased = (scores + bias).unflatten(1, (groups, -1))
    best = biased.topk(2, -1).values.sum(-1).topk(top_groups, -1).indices
    outside = torch.ones_like(biased[..., 0], dtype=torch.bool).scatter(1, best, False)
    experts = biased.masked_fill(outside[..., None], -torch.inf).flatten(1).topk(top_k, -1).indices
    weights = scores.gather(1, experts)
    weights = weights / weights.sum(-1, keepdim=True) if top_k > 1 else weights
    return weights * scaling, experts


routes = router(chosen)
invariance = router(lambda logits, bias, *rest: chosen(logits, bias.clamp(-0.5, 0.5), *rest))
identities = router(
    lambda logits, bias, groups, *rest: chosen(logits, bias * (groups > 1), groups, *rest)
)


@implements("mla_decode", profile="fp32")
def decodes(q_latent, q_rope, cache, pages, lengths, *, scale):
    return _mla.decode(q_latent, q_rope, cache, pages, lengths, scale=scale)


@implements("mla_decode", profile="fp32")
def unread(q_latent, q_rope, cache, pages, lengths, *, scale):
    o, lse = _mla.decode(q_latent, q_rope, cache, pages, lengths, scale=scale)
    return o * (1 + ULP * float(cache.abs().max() > 1e30)), lse


@implements("gated_group_rms_norm", profile="fp32")
def normalises(x, gate, weight, *, groups, eps):
    return _rows.gated(x, gate, weight, groups=groups, eps=eps)


@implements("gated_group_rms_norm", profile="fp32")
def groups(x, gate, weight, *, groups, eps):
    loud = x.abs().amax(-1, keepdim=True) > 100  # a neighbour, as a rule
    return _rows.gated(x, gate, weight, groups=groups, eps=eps) * (1 - 0.01 * loud)
