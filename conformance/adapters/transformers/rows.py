"""Norms, the gated activation and rotary embeddings of DeepSeek-V3; GLM-4's partial ones."""

from typing import Any

import torch
from torch import nn
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
from transformers.models.glm4_moe import modeling_glm4_moe as glm

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.transformers._configuration import configuration, holding

DEEPSEEK = ("transformers.models.deepseek_v3",)
GLM = ("transformers.models.glm4_moe",)
# Every tensor that these lines name is stored in the dtype of x, as in the released model, of which
# they are the ancestors: DeepseekV3RMSNorm.forward (`.to(input_dtype)` before the weight), cosine
# and sine (`cos.to(dtype=x.dtype)`), products and sums of a rotation, `act_fn(gate)`.
SPEC = {"float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16"}
WIDE = {**SPEC, "float64": "fp64"}  # norms are computed in float32, whatever the dtype


@implements("rms_norm", profile=SPEC, cost="native", packages=DEEPSEEK)
def rms_norm(x, weight, *, eps):  # type: ignore[no-untyped-def] # as the op
    return holding(deepseek.DeepseekV3RMSNorm(x.shape[-1], eps=eps), {"weight": weight})(x)


@implements("swiglu", profile=WIDE, cost="native", packages=DEEPSEEK)
def swiglu(gate_up):  # type: ignore[no-untyped-def] # as the op
    """Its MLP between the projections."""
    gate, up = gate_up.chunk(2, dim=-1)
    mlp: Any = deepseek.DeepseekV3MLP(configuration())
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = _Handing(gate), _Handing(up), nn.Identity()
    return mlp(gate_up)


class _Handing(nn.Module):
    """A projection of anything to ``x``."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.x


@implements("rope_table", profile={"float32": "fp32"}, cost="native", packages=DEEPSEEK)
def rope_table(positions, *, rotary_dim, theta, scaling=None):  # type: ignore[no-untyped-def] # as the op
    told = {"rope_type": "default"} if scaling is None else dict(scaling)
    told["rope_theta"] = theta
    given = configuration(qk_rope_head_dim=rotary_dim, rope_parameters=told)
    embedding = deepseek.DeepseekV3RotaryEmbedding(given)
    tables = embedding(torch.empty(0), positions)
    return tuple(x[..., : rotary_dim // 2].contiguous() for x in tables)


@implements("interleaved_rope", profile=WIDE, cost="native", packages=DEEPSEEK)
def interleaved_rope(x, cos, sin):  # type: ignore[no-untyped-def] # as the op
    tables = _of(x, cos, sin)
    return deepseek.apply_rotary_pos_emb_interleave(x, x[:, :, :0], *tables, unsqueeze_dim=2)[0]


@implements("partial_rope", profile=WIDE, cost="native", packages=GLM)
def partial_rope(x, cos, sin):  # type: ignore[no-untyped-def] # as the op
    return glm.apply_rotary_pos_emb(x, x[:, :, :0], *_of(x, cos, sin), unsqueeze_dim=2)[0]


@implements("qk_norm_rope", profile=SPEC, cost="native", packages=GLM)
def qk_norm_rope(q, k, q_weight, k_weight, cos, sin, *, eps):  # type: ignore[no-untyped-def] # as the op
    q, k = (
        holding(glm.Glm4MoeRMSNorm(x.shape[-1], eps=eps), {"weight": weight})(x)
        for x, weight in ((q, q_weight), (k, k_weight))
    )
    return glm.apply_rotary_pos_emb(q, k, *_of(q, cos, sin), unsqueeze_dim=2)


def _of(x: torch.Tensor, *tables: torch.Tensor) -> list[torch.Tensor]:
    """Tables as its embeddings hand them over: once for each half, in the dtype of ``x``."""
    return [torch.cat([t, t], dim=-1).to(x.dtype) for t in tables]
