"""What composites are asked: configurations of many kinds in every run, positions that exist."""

from __future__ import annotations

import pytest

from lingspec.conformance.contracts import contract
from lingspec.conformance.contracts._composite import positions_of
from lingspec.conformance.contracts._configs import BASE, config_of, layer_of
from lingspec.conformance.contracts.model import config_of_case
from lingspec.conformance.plan import plan

LAYERS = ("lightning_layer", "mla_layer", "moe_block", "decoder_layer", "mtp_layer")
SHIFT = 1000  # of law invariance, at most
KINDS = {
    "a router as the model's": lambda c: (c.num_experts, c.n_group, c.topk_group) == (256, 8, 4),
    "eight groups": lambda c: c.n_group == 8 and c.num_experts < 256,
    "more than eight experts a token": lambda c: c.num_experts_per_tok > 8,
    "more than sixteen heads": lambda c: c.num_attention_heads > 16,
    "heads of 64": lambda c: c.head_dim == 64,
    "a hidden size of 128": lambda c: c.hidden_size == 128,
    "groups of four layers and more": lambda c: c.layer_group_size >= 4,
    "more than sixteen layers": lambda c: c.num_hidden_layers > 16,
    "several dense layers": lambda c: c.first_k_dense_replace > 1,
    "the older name of a kind": lambda c: "type" in (c.rope_scaling or {}),
}


def asked(op, seed):
    of = contract(op)
    return [
        case for dtype in ("f64", "f32") for case in plan(of, of.laws, dtype, "native", "ci", seed)
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("op", LAYERS)
def test_every_run_asks_about_configurations_of_every_kind(op, seed):
    configs = [config_of(case.traits["config"], case.seed) for case in asked(op, seed)]
    assert [kind for kind, of in KINDS.items() if not any(map(of, configs))] == []


@pytest.mark.parametrize("seed", range(6))
def test_every_run_asks_about_models_of_every_depth(seed):
    configs = [config_of_case(case) for case in asked("model", seed)]
    kinds = {(c.layer_group_size, c.num_hidden_layers, c.first_k_dense_replace) for c in configs}
    assert len(kinds) == 4
    assert {c.num_nextn_predict_layers for c in configs} == {0, 1}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("op", [*LAYERS, "model"])
def test_no_position_is_beyond_those_that_the_configuration_has(op, seed):
    latest = [
        int(at.max()) for case in asked(op, seed) if (at := positions_of(case)).numel()
    ]  # fmt: skip
    assert max(latest) + SHIFT < BASE.max_position_embeddings
    assert max(latest) > 1 << 15


@pytest.mark.parametrize("like", range(6))
def test_a_layer_of_another_depth_has_the_same_attention(like):
    for seed in range(64):
        config = config_of("plain", seed << 16)
        layer = layer_of(config, like)
        assert config.is_mla(layer) == BASE.is_mla(like)
        assert (layer == config.num_hidden_layers) == (like == BASE.num_hidden_layers)
