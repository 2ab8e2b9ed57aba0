"""Laws of moe_block."""

import pytest
import torch
from drawing import assert_near, normal
from small import small

from lingspec.reference.layers import decoder_layer, moe_block
from lingspec.reference.layout import layer_tensors
from lingspec.reference.ops import swiglu

LAYER = 2
NAME = f"model.layers.{LAYER}.mlp"


def mlp(x, w, name):
    both = torch.cat([w[f"{name}.gate_proj.weight"], w[f"{name}.up_proj.weight"]])
    return swiglu(x @ both.T) @ w[f"{name}.down_proj.weight"].T


def run(x, w, config, **rest):
    return moe_block(x, w, config, layer=LAYER, **rest)


@pytest.mark.statement("MOE-1", "MOE-7", "MOE-11", "ROUTE-6", "ROUTE-7")
def test_it_is_the_weighted_sum_of_the_chosen_experts_plus_the_shared_one():
    config, w = small()
    w[f"{NAME}.gate.expert_bias"] += normal(8, seed=5)  # large enough to move choices
    x, seen = normal(2, 5, 32), {}
    y = run(x, w, config, tap=seen.__setitem__)
    scores = torch.sigmoid(x @ w[f"{NAME}.gate.weight"].T)
    for b in range(2):
        for t in range(5):
            chosen = seen[f"layers.{LAYER}.topk_idx"][b, t].tolist()
            total = sum(scores[b, t, e] for e in chosen)
            want = mlp(x[b, t], w, f"{NAME}.shared_experts")
            for e in chosen:
                share = 2.5 * scores[b, t, e] / total
                want = want + share * mlp(x[b, t], w, f"{NAME}.experts.{e}")
            assert_near(y[b, t], want)


@pytest.mark.statement("MOE-11")
def test_experts_in_place_of_the_chosen_ones_get_the_weights_of_their_own_scores():
    config, w = small()
    x, seen = normal(1, 3, 32), {}
    forced = torch.tensor([[[0, 7], [1, 6], [2, 5]]])

    def tap(name, tensor):
        seen[name] = tensor
        return forced if name.endswith("topk_idx") else None

    run(x, w, config, tap=tap)
    scores = torch.sigmoid(x @ w[f"{NAME}.gate.weight"].T)[0].gather(1, forced[0])
    want = 2.5 * scores / scores.sum(-1, keepdim=True)
    assert_near(seen[f"layers.{LAYER}.topk_weight"].view(3, 2), want)


@pytest.mark.statement("MOE-7")
def test_the_shared_expert_is_added_to_the_rounded_sum():
    config, w = small()
    narrow = {n: x if "expert_bias" in n else x.bfloat16() for n, x in w.items()}
    x = normal(2, 5, 32, dtype=torch.bfloat16)
    y = run(x, narrow, config)
    alone = dict(narrow)
    alone[f"{NAME}.shared_experts.down_proj.weight"] = torch.zeros(32, 16, dtype=torch.bfloat16)
    routed = run(x, alone, config)
    for e in range(8):
        narrow[f"{NAME}.experts.{e}.down_proj.weight"] = torch.zeros(32, 16, dtype=torch.bfloat16)
    assert torch.equal(y, routed + run(x, narrow, config))


@pytest.mark.statement("MOE-8")
@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_shared_expert_is_as_wide_as_the_number_of_shared_experts_says(number):
    config, w = small(num_shared_experts=number)
    shapes = {n: s for n, s in layer_tensors(config, LAYER) if "shared_experts" in n}
    assert len(shapes) == (3 if number else 0)
    if number:
        assert shapes[f"{NAME}.shared_experts.up_proj.weight"] == (16 * number, 32)
    x = normal(2, 5, 32)
    y = run(x, w, config)
    plain, _ = small(num_shared_experts=0)
    shared = mlp(x, w, f"{NAME}.shared_experts") if number else torch.zeros_like(y)
    assert_near(y, run(x, w, plain) + shared)


@pytest.mark.statement("MOE-10")
def test_a_token_depends_on_no_other_and_not_on_its_position():
    config, w = small()
    x = normal(2, 5, 32)
    y, order = run(x, w, config), torch.tensor([3, 0, 4, 1, 2])
    assert_near(run(x[:, order], w, config), y[:, order])
    assert_near(run(x[1:, 2:3], w, config), y[1:, 2:3])
    assert torch.equal(run(x, w, config, positions=torch.full((2, 5), 9)), y)


@pytest.mark.statement("MOE-12", "MODEL-5")
def test_a_dense_layer_is_one_expert_of_intermediate_size():
    config, w = small()
    assert w["model.layers.0.mlp.up_proj.weight"].shape == (48, 32)
    x, seen = normal(2, 5, 32), {}
    positions = torch.arange(5).expand(2, 5)
    y = decoder_layer(x, w, config, layer=0, positions=positions, tap=seen.__setitem__)
    h = x + seen["layers.0.attention"]
    normed = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    normed = normed * w["model.layers.0.post_attention_layernorm.weight"]
    assert_near(seen["layers.0.mlp"], mlp(normed, w, "model.layers.0.mlp"))
    assert_near(y, h + seen["layers.0.mlp"])
