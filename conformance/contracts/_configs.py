"""Configurations of composites: what a name says, and sizes that go with the seed of a case.

One configuration has accidents: as many groups as heads, two experts in a group, half of a head
rotated. There are several, so that whoever takes an accident for a rule is wrong in one of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lingspec.reference.config import LingConfig

__all__ = ["BASE", "CONFIGS", "DEPTHS", "DRAWN", "SIZES", "config_of", "layer_of", "told"]

BASE = LingConfig(
    vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=5,
    num_attention_heads=3, num_key_value_heads=3, head_dim=8, layer_group_size=2,
    group_norm_size=3, q_lora_rank=12, kv_lora_rank=16, qk_nope_head_dim=10, qk_rope_head_dim=4,
    v_head_dim=6, num_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
    moe_intermediate_size=12, routed_scaling_factor=2.5, num_nextn_predict_layers=1,
    max_position_embeddings=1 << 17, pad_token_id=0, eos_token_id=1, dtype="float32",
)  # fmt: skip

HEADS = tuple(
    {
        "num_attention_heads": H, "num_key_value_heads": H, "head_dim": K,
        "partial_rotary_factor": part, "qk_rope_head_dim": int(K * part), "group_norm_size": groups,
    }
    for H, K, part, groups in (
        (3, 8, 0.5, 3), (4, 8, 0.25, 2), (2, 12, 0.5, 4), (5, 4, 1.0, 1), (1, 16, 0.25, 4),
        (6, 4, 0.5, 3), (8, 4, 0.5, 8), (3, 8, 1.0, 6), (20, 4, 0.5, 4), (16, 8, 0.5, 8),
        (2, 64, 0.5, 4),
    )
)  # fmt: skip
EXPERTS = tuple(
    {"num_experts": E, "n_group": groups, "topk_group": kept, "num_experts_per_tok": k}
    for E, groups, kept, k in (
        (8, 4, 2, 3), (12, 3, 2, 4), (16, 4, 2, 3), (10, 2, 1, 2), (9, 3, 1, 2), (20, 4, 3, 5),
        (32, 8, 4, 8), (16, 8, 3, 6), (24, 1, 1, 6), (34, 2, 2, 9),
    )
)  # fmt: skip
# Those of the model, narrow.
ROUTER = {
    "num_experts": 256, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8,
    "moe_intermediate_size": 4,
}  # fmt: skip
WIDTHS = tuple(
    {
        "hidden_size": D, "q_lora_rank": q, "kv_lora_rank": kv, "qk_nope_head_dim": nope,
        "v_head_dim": v, "moe_intermediate_size": hidden,
    }
    for D, q, kv, nope, v, hidden in (
        (24, 12, 16, 10, 6, 12), (16, 8, 8, 6, 10, 20), (20, 18, 24, 8, 8, 8),
        (32, 10, 12, 4, 12, 12), (64, 32, 64, 16, 16, 32), (128, 24, 32, 8, 12, 16),
    )
)  # fmt: skip
# MLA in each n-th layer and behind the last whole group, a dense MLP in the first layers.
DEPTHS = tuple(
    {"layer_group_size": group, "num_hidden_layers": layers, "first_k_dense_replace": dense}
    for group, layers, dense in (
        (2, 5, 1),
        (4, 9, 1),
        (3, 7, 2),
        (8, 17, 1),
        (5, 12, 4),
        (2, 81, 1),
    )
)
BIASES = tuple(
    {"use_qkv_bias": before, "use_bias": behind}
    for before, behind in ((True, True), (True, False), (False, True))
)
YARN = {"factor": 4.0, "original_max_position_embeddings": 1024}
# A base so small that of few pairs one turns neither often nor seldom; either name of the kind.
YARNS = tuple(
    {"rope_scaling": {("rope_type", "type")[n % 2]: "yarn", **YARN, **more}, "rope_theta": theta}
    for n, (theta, more) in enumerate((
        (6e5, {"mscale": 0.9, "mscale_all_dim": 0.6}), (2e3, {"mscale_all_dim": 0.6}),
        (2e3, {"attention_factor": 1.125}), (2e3, {"beta_slow": 2.5, "truncate": False}),
        (2e3, {"beta_fast": 9.0, "mscale": 0.7, "mscale_all_dim": 0.7}),
        (6e5, {"factor": 8.0, "original_max_position_embeddings": 256, "mscale": 0.8}),
    ))
)  # fmt: skip
SIZES = 1 << 16  # sizes go with the bits of a seed from here on

# Both origins of the decays often enough for whoever has only one of them; base of the angles, eps
# and scaling with two values at least: who computes with the usual one must not pass.
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fullq": {"q_lora_rank": None, "rope_theta": 1e4, "routed_scaling_factor": 1.7},
    "biased": {"num_shared_experts": 2},
    "unnormed": {
        "use_qk_norm": False, "group_norm_size": 1, "num_experts_per_tok": 1,
        "decay_layer_origin": 0,
    },
    "yarn": {"num_experts_per_tok": 2},
    "alone": {
        "num_experts_per_tok": 1,
        "num_shared_experts": 0,
        "n_group": 1,
        "topk_group": 1,
        "decay_layer_origin": 0,
    },
    "router": ROUTER,
    "training": {"decay_layer_origin": 0, "rms_norm_eps": 1e-3, "routed_scaling_factor": 0.3},
}  # fmt: skip
# Of whose mappings there are many; and whose weights are so many that they are drawn less often.
DRAWN = (*(name for name in CONFIGS if name != "router"), "yarn") * 2 + ("router",)
# What else a name has, one of several.
KINDS: dict[str, Sequence[Mapping[str, Any]]] = {"biased": BIASES, "yarn": YARNS}


def config_of(
    name: str, seed: int, *, base: LingConfig = BASE,
    named: Mapping[str, Mapping[str, Any]] = CONFIGS,
    depths: Sequence[Mapping[str, Any]] = DEPTHS,
) -> LingConfig:  # fmt: skip
    """What a name says, with the sizes of a case's seed; those of ``base`` below `SIZES`.

    Laws change the lower bits, for other values of the same sizes.
    """
    left, sizes = (
        seed // SIZES * 40503 % (1 << 16),
        dict[str, Any](),
    )  # odd: no two seeds fall together
    for choices in (HEADS, EXPERTS, WIDTHS, depths, KINDS.get(name, ({},))):
        left, n = divmod(left, len(choices))
        sizes |= choices[n]
    return dataclasses.replace(base, **{**sizes, **named[name]})


def layer_of(config: LingConfig, like: int) -> int:
    """A layer with the attention and the MLP that layer ``like`` of ``BASE`` has, MTP if it is."""
    if like >= BASE.num_hidden_layers:
        return config.num_hidden_layers
    layers = range(config.num_hidden_layers)
    alike = [n for n in layers if config.is_mla(n) == BASE.is_mla(like)]
    alike = [n for n in alike if config.is_moe(n) == BASE.is_moe(like)] or alike
    return alike[like * (len(alike) - 1) // (BASE.num_hidden_layers - 1)]  # from first to last


def told(config: LingConfig) -> dict[str, Any]:
    """The keys of a `config.json`, the layer origin always among them."""
    return {**config.to_dict(), "decay_layer_origin": config.decay_layer_origin}
