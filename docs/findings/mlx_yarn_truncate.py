import numpy as np
from mlx_lm.models.rope_utils import initialize_rope
from transformers import GptOssConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

yarn = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096,
    "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}  # fmt: skip
mlx = 1 / np.array(initialize_rope(64, 150000, False, yarn)._freqs)
config = GptOssConfig(rope_parameters={**yarn, "rope_theta": 150000})
told = ROPE_INIT_FUNCTIONS["yarn"](config)[0].numpy()
print("mlx-lm      ", *(f"{x:.3e}" for x in mlx[9:18]))
print("transformers", *(f"{x:.3e}" for x in told[9:18]))
print("largest quotient", max(mlx / told), "and its inverse", max(told / mlx))
