import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Experts

config = DeepseekV3Config(hidden_size=8, moe_intermediate_size=8, n_routed_experts=2)
experts = DeepseekV3Experts(config).half()
experts.gate_up_proj.data.fill_(0.1)
experts.down_proj.data.fill_(0.1)
experts.gate_up_proj.data[1] = 100.0  # an expert with large activations: not this token's
experts._is_expert_parallel = True
for way in ("grouped_mm", "batched_mm"):
    config._experts_implementation = way
    y = experts(torch.ones(1, 8).half(), torch.tensor([[0, 2]]), torch.tensor([[1.0, 0.0]]))
    print(f"{way}: {y[0, 0].item():.4f}, where the second of two experts is on another rank")
