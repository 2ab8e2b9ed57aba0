"""Configurations of DeepSeek-V3's modules, and their weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config

__all__ = ["configuration", "holding"]

SMALL = {
    "vocab_size": 2, "hidden_size": 8, "intermediate_size": 8, "moe_intermediate_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 1, "num_key_value_heads": 1,
    "n_routed_experts": 2, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 1,
}  # fmt: skip


def configuration(**told: Any) -> Any:
    """A small configuration, but for what is ``told``."""
    return DeepseekV3Config(**{**SMALL, **told})


def holding(module: Any, tensors: Mapping[str, Tensor]) -> Any:
    """``module`` with these very tensors as its parameters and buffers."""
    for name, x in tensors.items():
        of, _, last = name.rpartition(".")
        owner = module.get_submodule(of)
        if last in owner._buffers:
            owner._buffers[last] = x
        else:
            setattr(owner, last, nn.Parameter(x, requires_grad=False))
    return module
