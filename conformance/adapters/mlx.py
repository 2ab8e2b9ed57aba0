"""mlx-lm's Ling 2.5: its linear attention, whole prompts and one token at a time."""

from typing import Any

import mlx.core as mx
import torch
from mlx_lm.models.bailing_hybrid import recurrent_gla

from lingspec.conformance.adapter import implements

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
    q, k, v = (_mlx(x.transpose(1, 2)) for x in (q, k, v))
    state = None if initial_state is None else _mlx(initial_state)
    o, state = recurrent_gla(q, k, v, _mlx(log_decay), scale=scale, h=state)
    return _torch(o).transpose(1, 2), _torch(state)


@implements("lightning_decode", profile=PROFILE, packages=("mlx_lm",))
def lightning_decode(q, k, v, log_decay, state_pool, slots, *, scale):  # type: ignore[no-untyped-def] # as the op
    o, live = torch.zeros_like(v), slots >= 0
    if live.any():  # the package has no pool: gathered before, scattered after
        q, k, v = (_mlx(x[live][:, :, None]) for x in (q, k, v))  # (B, H, 1, K or V)
        state = _mlx(state_pool[slots[live]])
        y, state = recurrent_gla(q, k, v, _mlx(log_decay), scale=scale, h=state)
        o[live], state_pool[slots[live]] = _torch(y)[:, :, 0], _torch(state)
    return o


def _mlx(x: torch.Tensor) -> Any:
    return mx.array(x.contiguous())  # of a view it would copy all that the view spans


def _torch(x: Any) -> torch.Tensor:
    mx.eval(x)
    return torch.utils.dlpack.from_dlpack(x)
