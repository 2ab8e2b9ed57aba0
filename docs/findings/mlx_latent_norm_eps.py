from mlx_lm.models.bailing_hybrid import ModelArgs, MultiLatentAttention
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention

known = ModelArgs.__dataclass_fields__
args = ModelArgs(**{**dict.fromkeys(known, 2), "rope_scaling": None, "rms_norm_eps": 1e-3,
    "partial_rotary_factor": 1.0})  # fmt: skip
print("mlx-lm      ", MultiLatentAttention(args).kv_a_layernorm.eps)
config = DeepseekV3Config(hidden_size=8, num_attention_heads=2, rms_norm_eps=1e-3)
print("transformers", DeepseekV3Attention(config, 0).kv_a_layernorm.variance_epsilon)
