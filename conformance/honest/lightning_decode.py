"""Right lightning decode in several forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._lightning import Result, Tensor, chunked, decode

OP = "lightning_decode"


@honest(OP, differs="all requests at once, padding left out")
def decodes_all_live_requests_at_once(*call: Any, **options: Any) -> Tensor:
    return decode(*call, **options)


@honest(OP, differs="one request after another, in reverse, each through a call of one token")
def decodes_one_request_after_another(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    o = torch.zeros_like(v)
    for b in reversed(range(len(slots))):
        slot = int(slots[b])
        if slot < 0:
            continue
        q_b, k_b, v_b = (x[b][None, None] for x in (q, k, v))
        row = state_pool[slot][None]
        read_out, state = chunked(q_b, k_b, v_b, log_decay, scale=scale, initial_state=row)
        o[b] = read_out[0, 0]
        state_pool[slot] = state[0]
    return o


@honest(OP, differs="the new state is rounded where q reads it, and not where it is stored")
def rounds_the_state_as_it_is_read(*call: Any, **options: Any) -> Tensor:
    dtype = options["q"].dtype if "q" in options else call[0].dtype

    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        S = a * S + k[..., :, None] * v[..., None, :]
        as_read = S.to(dtype).to(S.dtype)
        return scale * (q[..., None, :] @ as_read).squeeze(-2), S

    return decode(*call, **options, token=token)


@honest(OP, differs="the old state and the token are read apart: scale (a q S + (q k) v)")
def reads_the_old_state_and_the_token_apart(*call: Any, **options: Any) -> Tensor:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        old = a[..., 0] * (q[..., None, :] @ S).squeeze(-2)
        own = (q * k).sum(-1, keepdim=True) * v
        return scale * (old + own), torch.addcmul(a * S, k[..., :, None], v[..., None, :])

    return decode(*call, **options, token=token)


@honest(OP, differs="padding rows compute with row 0 and are then neither returned nor stored")
def computes_padding_and_throws_it_away(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor,
    *, scale: float,
) -> Tensor:  # fmt: skip
    if not len(state_pool):
        return torch.zeros_like(v)
    live = (slots >= 0).nonzero().flatten()
    scratch = state_pool[slots.clamp(min=0).long()].contiguous()
    own_row = torch.arange(len(slots), device=slots.device)
    o = decode(q, k, v, log_decay, scratch, own_row, scale=scale)
    state_pool.index_copy_(0, slots[live].long(), scratch[live])
    return torch.where((slots >= 0)[:, None, None], o, 0)


@honest(
    OP,
    differs="NumPy, einsum",
    array="numpy",
    profile={"float64": "fp64", "float32": "fp32"},
)
def decodes_with_numpy(
    q: Any, k: Any, v: Any, log_decay: Any, state_pool: Any, slots: Any, *, scale: float
) -> Any:
    live = np.flatnonzero(np.asarray(slots) >= 0)
    rows = np.asarray(slots)[live]
    state = np.exp(log_decay)[:, None, None] * state_pool[rows]
    state += k[live][..., :, None] * v[live][..., None, :]
    state_pool[rows] = state
    o = np.zeros_like(v)
    o[live] = np.asarray(scale, dtype=q.dtype) * np.einsum("bhk,bhkv->bhv", q[live], state)
    return o
