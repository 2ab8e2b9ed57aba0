"""The configurations of released models, every field with its source.

TR is arXiv 2606.15079, table 1; TFPR huggingface/transformers PR 46713; RFC sglang-jax issue 153;
READMEs are those of the released models. Fields that are not here have the default of the released
configuration class.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

_1T: dict[str, Any] = {
    "num_hidden_layers": 80,  # TR
    "hidden_size": 8192,  # TR
    "intermediate_size": 18432,  # TR
    "moe_intermediate_size": 2048,  # TR
    "num_attention_heads": 64,  # TR
    "num_key_value_heads": 64,  # TFPR; the released code runs with no other number
    "head_dim": 128,  # TR
    "layer_group_size": 8,  # TR: seven Lightning layers for one of MLA
    "group_norm_size": 8,  # RFC
    "q_lora_rank": 1536,  # TR
    "kv_lora_rank": 512,  # TR
    "first_k_dense_replace": 4,  # TR
    "routed_scaling_factor": 2.5,  # TR
    "rope_theta": 6_000_000.0,  # TFPR
    # 131,072 is what the configuration says (RFC, TFPR). 262,144 is the context of the last
    # training stage (TR), which the READMEs reach by YaRN with factor 2 over 131,072.
    "max_position_embeddings": 131072,
    "eos_token_id": (156892, 156895),  # the configuration class; <|role_end|>, which chats end with
}
_FLASH: dict[str, Any] = {
    **_1T,
    "num_hidden_layers": 32,  # TR
    "hidden_size": 4096,  # TR
    "intermediate_size": 9216,  # TR
    "moe_intermediate_size": 1024,  # TR
    "num_attention_heads": 32,  # TR
    "num_key_value_heads": 32,
    "group_norm_size": 4,  # OsaurusAI/Ling-2.6-flash-JANGTQ
    "first_k_dense_replace": 1,  # TR
    "num_nextn_predict_layers": 1,  # model-mtp-layer.safetensors of the release
}
# Released models. That 2.5 and 2.6, and Ling and Ring, share one architecture is said by TR.
PRESETS: dict[str, dict[str, Any]] = {
    "ling-2.5-1t": _1T,
    "ring-2.5-1t": _1T,
    "ling-2.6-1t": {**_1T, "num_nextn_predict_layers": 1},  # sglang-jax PR 1087: layer 80
    "ling-2.6-flash": _FLASH,
}
