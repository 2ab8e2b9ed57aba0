"""transformers: the Lightning attention of MiniMax, alone.

The module is the package's, with what stands around the linear attention opened: projections,
activation and norm are the identity, the output gate is 1. Its decays are made by its own
`decay_factors` from our log_decay. Buffers have the dtype of the inputs, as in a loaded model. It
has one head dimension: where K is not V, the narrower ones are filled up with zeros.
"""

from typing import Any

import torch
from torch import nn
from transformers import MiniMaxConfig
from transformers.models.minimax.modeling_minimax import MiniMaxCache, MiniMaxLightningAttention

from lingspec.conformance.adapter import implements

PROFILE = {"float32": "fp32", "bfloat16": "bf16-eager"}


MILD = ("slopes", "none", "slow", "mild")


def _supports(case: Any) -> bool | str:
    if case.packed:
        return "no packed sequences"
    # A loaded model has its slopes in bf16 too, which moves a decay by 2^-9 of its exponent; its
    # own slopes are below 1, where that is no more than rounding the factor.
    return case.dtype == "float32" or case.decay in MILD or "slopes above 1 in bf16"


@implements(
    "lightning_attention", profile=PROFILE, backward=True, supports=_supports,
    cost="native", packages=("transformers.models.minimax",),
)  # fmt: skip
def lightning_attention(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    B, T, H, K = q.shape
    V = v.shape[-1]
    if T == 0:  # no call of the package's
        state = q.new_zeros(B, H, K, V, dtype=torch.float32)
        return torch.empty_like(v), state if initial_state is None else initial_state.clone()
    D = max(K, V)
    q, k, v = (nn.functional.pad(x, (0, D - x.shape[-1])) for x in (q * scale, k, v))
    cache = MiniMaxCache()
    if initial_state is not None:
        state = nn.functional.pad(initial_state, (0, D - V, 0, D - K))
        cache.set_linear_cache(0, state.to(q.dtype))
    fused = torch.cat([q, k, v], dim=-1).flatten(2)  # (B, T, H 3D), as of its qkv_proj
    o, state = _attention(H, D, log_decay, q.dtype)(fused, None, None, cache)
    return o.unflatten(-1, (H, D))[..., :V], state[..., :K, :V].float()


def _attention(H: int, D: int, log_decay: torch.Tensor, dtype: torch.dtype) -> nn.Module:
    config = MiniMaxConfig(
        hidden_size=1, num_attention_heads=H, head_dim=D, hidden_act="linear", num_hidden_layers=2,
        layer_types=["linear_attention"] * 2,
    )  # fmt: skip
    made = MiniMaxLightningAttention(config, layer_idx=0)
    made.qkv_proj = made.norm = made.out_proj = nn.Identity()
    made.output_gate = _Open()
    # It masks by the sign of slope * (i - j), and its own slopes are above 0; so is this, and its
    # factors are 1 all the same.
    made.slope_rate = (-log_decay).clamp(min=2.0**-100)[:, None, None]
    factors = made.decay_factors(made.slope_rate)
    made.query_decay, made.key_decay, made.diagonal_decay = factors
    return made.to(dtype)


class _Open(nn.Module):
    """The logit of a gate that lets everything through."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Infinity: its sigmoid is 1."""
        return x.new_full((), torch.inf)
