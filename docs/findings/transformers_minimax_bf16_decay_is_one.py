import torch
from transformers import MiniMaxConfig
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

# The heads and layers of MiniMax-Text-01; every eighth layer is softmax attention.
config = MiniMaxConfig(hidden_size=64, num_attention_heads=64, head_dim=1, num_hidden_layers=80)
layers = [i for i in range(80) if (i + 1) % 8]
ones, longest = 0, 0.0
for i in layers:
    slope = MiniMaxLightningAttention(config, i).slope_rate
    ratio = torch.exp(-slope.to(torch.bfloat16))  # of each token, in `forward` with a cache
    ones += int((ratio == 1).sum())
    longest = max(longest, float(slope[ratio == 1].max()) if (ratio == 1).any() else 0.0)
print(f"decoding in bfloat16, {ones} of {64 * len(layers)} heads multiply their state by 1")
print(
    f"in float32 the fastest of them keeps {2.718281828 ** (-1000 * longest):.2f} after 1000 tokens"
)
