"""DeepSeek-V3's attention and experts, as layers of Ling."""

from typing import Any

import torch
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.transformers._configuration import configuration, holding

PACKAGES = ("transformers.models.deepseek_v3", "transformers.integrations")
FLOAT32 = {"float32": "fp32"}


def _in_steps(case: Any) -> bool | str:
    return case.positions != "any" or "where positions do not follow, it takes a sequence to begin"


@implements("mla_layer", profile=FLOAT32, cost="native", supports=_in_steps, packages=PACKAGES)
def mla_layer(x, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def] # as the op
    if not x.numel():  # no call of the package's
        if cache is not None:
            new = cache.rows.new_zeros(*x.shape[:2], cache.rows.shape[2])
            cache.rows = torch.cat([cache.rows, new], dim=1)
        return x.clone()
    given = _told(config)
    rank = given.kv_lora_rank
    held = DynamicCache()
    if cache is not None and cache.rows.shape[1]:
        rows = cache.rows[:, None]
        held.update(rows[..., :rank], rows[..., rank:], 0)
    attention = _own(
        deepseek.DeepseekV3Attention(given, 0), weights, f"model.layers.{layer}.attention"
    )
    tables = deepseek.DeepseekV3RotaryEmbedding(given)(x, positions)
    mask = create_causal_mask(given, x, None, held, positions)
    y, _ = attention(x, tables, mask, past_key_values=held)
    if cache is not None:
        kept = held.layers[0]
        cache.rows = torch.cat([kept.keys, kept.values], dim=-1)[:, 0]
    return y


@implements("moe_block", profile=FLOAT32, cost="native", packages=PACKAGES)
def moe_block(x, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    given = _told(config)
    name = f"model.layers.{layer}.mlp"
    block = deepseek.DeepseekV3MoE(given)
    experts = range(given.n_routed_experts)

    def of_each(matrix: str) -> torch.Tensor:
        return torch.stack([weights[f"{name}.experts.{e}.{matrix}.weight"] for e in experts])

    tensors = {
        "gate.weight": weights[f"{name}.gate.weight"],
        "gate.e_score_correction_bias": weights[f"{name}.gate.expert_bias"],
        "experts.gate_up_proj": torch.cat([of_each("gate_proj"), of_each("up_proj")], dim=1),
        "experts.down_proj": of_each("down_proj"),
    }
    shared = f"{name}.shared_experts."
    tensors |= {n.removeprefix(f"{name}."): w for n, w in weights.items() if n.startswith(shared)}
    return holding(block, tensors)(x.contiguous())  # as the norm before it is; it takes a view


def _own(module: Any, weights: Any, name: str) -> Any:
    """``module`` with the tensors under ``name``, of which the last projection is called o_proj."""
    start = f"{name}."
    found = {n.removeprefix(start): x for n, x in weights.items() if n.startswith(start)}
    return holding(module, {n.replace("dense.", "o_proj."): x for n, x in found.items()})


def _told(config: Any) -> Any:
    """The configuration of Ling in the words of DeepSeek-V3."""
    same = (
        "hidden_size", "num_attention_heads", "num_key_value_heads", "q_lora_rank", "kv_lora_rank",
        "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "moe_intermediate_size", "n_group",
        "topk_group", "num_experts_per_tok", "routed_scaling_factor", "max_position_embeddings",
        "rms_norm_eps",
    )  # fmt: skip
    scaling = config.get("rope_scaling") or {"rope_type": "default"}
    given = configuration(
        **{key: config[key] for key in same},
        n_routed_experts=config["num_experts"],
        n_shared_experts=config["num_shared_experts"],
        attention_bias=config["use_qkv_bias"],
        norm_topk_prob=config["num_experts_per_tok"] > 1,  # as released, which has no such key
        rope_parameters={**scaling, "rope_theta": config["rope_theta"]},
    )
    given._attn_implementation = given._experts_implementation = "eager"
    return given
