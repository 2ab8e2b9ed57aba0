"""Arguments of mlx-lm's modules."""

from typing import Any

from mlx_lm.models.bailing_hybrid import ModelArgs

__all__ = ["arguments"]

# The least that a module can be built with.
LEAST = {
    "model_type": "bailing_hybrid", "hidden_size": 1, "intermediate_size": 1,
    "moe_intermediate_size": 1, "num_hidden_layers": 2, "num_attention_heads": 1,
    "num_key_value_heads": 1, "num_experts": 2, "num_experts_per_tok": 1, "num_shared_experts": 0,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 0, "layer_group_size": 2,
    "group_norm_size": 1, "vocab_size": 1, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 4096, "routed_scaling_factor": 1.0, "head_dim": 2,
    "kv_lora_rank": 1, "qk_rope_head_dim": 2, "qk_nope_head_dim": 1, "v_head_dim": 1,
    "partial_rotary_factor": 1.0,
}  # fmt: skip


def arguments(**told: Any) -> Any:
    """The configuration of its modules."""
    return ModelArgs.from_dict({**LEAST, **told})
