import mlx.core as mx
from mlx_lm.models.rope_utils import initialize_rope
from transformers import DeepseekV3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

yarn = {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
    "mscale": 0.707, "mscale_all_dim": 0.0}  # fmt: skip
one = mx.array([1.0, 0.0]).reshape(1, 1, 1, 2)
print("mlx-lm      ", initialize_rope(2, 1e4, False, yarn)(one, offset=0)[0, 0, 0, 0].item())
config = DeepseekV3Config(rope_parameters={**yarn, "rope_theta": 1e4})
print("transformers", ROPE_INIT_FUNCTIONS["yarn"](config)[1])
