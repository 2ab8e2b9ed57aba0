"""A small configuration and its synthetic checkpoint, for tests of what reads weights."""

import dataclasses

import torch

from lingspec.reference import LingConfig
from lingspec.reference.synthetic import Synthetic

SMALL = LingConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=5,
    num_attention_heads=4, num_key_value_heads=4, head_dim=8, layer_group_size=2,
    group_norm_size=2, q_lora_rank=12, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
    v_head_dim=8, num_experts=8, num_experts_per_tok=2, n_group=4, topk_group=2,
    moe_intermediate_size=16, routed_scaling_factor=2.5, num_nextn_predict_layers=1,
    max_position_embeddings=4096, pad_token_id=0, eos_token_id=1, dtype="float32",
)  # fmt: skip


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    return dict(Synthetic(SMALL, seed, torch.float32))


def small(**changes: object) -> tuple[LingConfig, dict[str, torch.Tensor]]:
    """The small configuration with changes, and its weights in float64."""
    config = dataclasses.replace(SMALL, **changes)
    return config, dict(Synthetic(config, 0, torch.float64))
