"""The linear attention of mlx-lm: whole prompts, one token at a time, and its decays."""

from typing import Any

import torch
from mlx_lm.models.bailing_hybrid import LinearAttention, recurrent_gla

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.mlx._arrays import mlx, torched
from lingspec.conformance.adapters.mlx._model import arguments

# Prompts are computed in float32 whatever the dtype. One token alone is not: scale * q and k v^T
# are rounded to the dtype of the inputs, the latter before it is added to the float32 state.
PROFILE = {"float32": "fp32", "bfloat16": "fp32+q=bf16+product=bf16"}
MILD = ("slopes", "none", "slow", "mild")


def _supports(case: Any) -> bool | str:
    if case.packed:
        return "no packed sequences"
    # its comment: "exp(|g| C / 2) must stay in float32 and |g| < 1"
    return case.decay in MILD or "decays below -1"


@implements("lightning_attention", profile=PROFILE, supports=_supports, packages=("mlx_lm",))
def lightning_attention(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    B, T, H, K = q.shape
    if T == 0:  # no call of the package's
        state = q.new_zeros(B, H, K, v.shape[-1], dtype=torch.float32)
        return torch.empty_like(v), state if initial_state is None else initial_state.clone()
    q, k, v = (mlx(x.transpose(1, 2)) for x in (q, k, v))
    state = None if initial_state is None else mlx(initial_state)
    o, state = recurrent_gla(q, k, v, mlx(log_decay), scale=scale, h=state)
    return torched(o).transpose(1, 2), torched(state)


@implements("lightning_decode", profile=PROFILE, packages=("mlx_lm",))
def lightning_decode(q, k, v, log_decay, state_pool, slots, *, scale):  # type: ignore[no-untyped-def] # as the op
    o, live = torch.zeros_like(v), slots >= 0
    if live.any():  # the package has no pool: gathered before, scattered after
        q, k, v = (mlx(x[live][:, :, None]) for x in (q, k, v))  # (B, H, 1, K or V)
        state = mlx(state_pool[slots[live]])
        y, state = recurrent_gla(q, k, v, mlx(log_decay), scale=scale, h=state)
        o[live], state_pool[slots[live]] = torched(y)[:, :, 0], torched(state)
    return o


def _counts_from_0(case: Any) -> bool | str:
    return case.O == 0 or "its layers have factor 1 at layer 0"


@implements("lightning_log_decay", supports=_counts_from_0, packages=("mlx_lm",))
def lightning_log_decay(heads, layer, layers, *, origin=1):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    given = arguments(num_attention_heads=heads, num_hidden_layers=layers)
    return torched(LinearAttention(given, layer_idx=layer)._get_slopes())
