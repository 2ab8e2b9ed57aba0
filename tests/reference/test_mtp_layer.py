"""Laws of mtp_layer and of the MTP layers of a model."""

import dataclasses

import pytest
import torch
from drawing import assert_near, normal
from small import small

from lingspec.reference import LingModel, rms_norm
from lingspec.reference.layers import decoder_layer, mtp_layer
from lingspec.reference.layout import layer_tensors

NAME = "model.layers.5"
POSITIONS = torch.arange(4).expand(2, 4)
IDS = torch.tensor([[5, 9, 7, 3], [8, 2, 2, 90]])


def run(x, embedded, w, config):
    return mtp_layer(x, embedded, w, config, layer=5, positions=POSITIONS)


@pytest.mark.statement("MTP-1")
def test_the_embedding_is_the_first_half():
    config, w = small()
    x, other, embedded = normal(2, 4, 32), normal(2, 4, 32, seed=1), normal(2, 4, 32, seed=2)
    whole = w[f"{NAME}.eh_proj.weight"].clone()
    w[f"{NAME}.eh_proj.weight"][:, 32:] = 0
    assert torch.equal(run(x, embedded, w, config), run(other, embedded, w, config))
    w[f"{NAME}.eh_proj.weight"].copy_(whole)[:, :32] = 0
    assert torch.equal(run(x, embedded, w, config), run(x, other, w, config))
    assert not torch.allclose(run(x, embedded, w, config), run(other, embedded, w, config))


@pytest.mark.statement("MTP-1", "MTP-2", "MTP-3", "MTP-6")
def test_it_is_two_norms_a_projection_a_layer_and_a_norm():
    config, w = small(rms_norm_eps=0.03)
    x, embedded = normal(2, 4, 32), normal(2, 4, 32, seed=1)

    def norm(y, name):
        return rms_norm(y, w[f"{NAME}.{name}.weight"], eps=0.03)

    joined = torch.cat([norm(embedded, "enorm"), norm(x, "hnorm")], dim=-1)
    h = joined @ w[f"{NAME}.eh_proj.weight"].T
    h = decoder_layer(h, w, config, layer=5, positions=POSITIONS)
    assert_near(run(x, embedded, w, config), norm(h, "final_layernorm"))


@pytest.mark.statement("MTP-3", "MTP-4")
def test_it_has_mla_and_experts_and_neither_embedding_nor_head():
    # Layer 6 would be Lightning by the rule of groups; no other layer has experts.
    config, w = small(num_nextn_predict_layers=2, layer_group_size=5, first_k_dense_replace=5)
    for layer in (5, 6):
        names = [name for name, _ in layer_tensors(config, layer)]
        assert any("kv_b_proj" in n for n in names)
        assert any("experts.7" in n for n in names)
        assert not any("query_key_value" in n for n in names)
    assert [n for n in w if "embed" in n or "head" in n] == [
        "model.word_embeddings.weight", "lm_head.weight",
    ]  # fmt: skip


@pytest.mark.statement("MTP-2", "MTP-4", "MTP-5", "MTP-6")
def test_several_layers_follow_each_other_each_with_tokens_one_place_further():
    config, w = small(num_nextn_predict_layers=2)
    model, seen = LingModel(config, w), {}
    first, second = model.mtp(IDS, tap=seen.__setitem__)
    embedding, head = w["model.word_embeddings.weight"], w["lm_head.weight"]
    zero = torch.zeros(2, 1, dtype=IDS.dtype)
    once = torch.cat([IDS[:, 1:], zero], dim=1)
    twice = torch.cat([IDS[:, 2:], zero, zero], dim=1)
    x = run(seen["final_norm"], embedding[once], w, config)
    assert_near(first, x @ head.T)
    x = mtp_layer(x, embedding[twice], w, config, layer=6, positions=POSITIONS)
    assert_near(second, x @ head.T)


@pytest.mark.statement("MTP-7")
def test_the_model_s_own_logits_do_not_know_of_them():
    config, w = small(num_nextn_predict_layers=2)
    none = dataclasses.replace(config, num_nextn_predict_layers=0)
    plain = {n: x for n, x in w.items() if not n.startswith(("model.layers.5", "model.layers.6"))}
    assert torch.equal(LingModel(config, w)(IDS), LingModel(none, plain)(IDS))
