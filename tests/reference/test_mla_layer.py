"""Laws of mla_layer, and the layer once more with loops and einsums."""

import dataclasses

import pytest
import torch
from drawing import assert_near, normal
from small import small
from torch import Tensor

from lingspec.reference import LingConfig
from lingspec.reference.cache import LatentCache
from lingspec.reference.layers import lightning_layer, mla_layer
from lingspec.reference.layout import layer_tensors

LAYER = 1
NAME = f"model.layers.{LAYER}.attention"
POSITIONS = torch.tensor([[3, 4, 5, 9, 10], [0, 1, 2, 3, 4]])
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
CONFIGS = {
    "as it is": {},
    "no compressed queries": {"q_lora_rank": None},
    "biases": {"use_qkv_bias": True},
    "other dims": {"qk_nope_head_dim": 6, "v_head_dim": 10},
}


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def rotated(x: Tensor, config: LingConfig, positions: Tensor) -> Tensor:
    """(B, T, R), neighbours as complex numbers; real parts first."""
    R = config.qk_rope_head_dim
    f = config.rope_theta ** (-torch.arange(0, R, 2, dtype=torch.float64) / R)
    angle = positions[:, :, None].double() * f
    turned = torch.complex(x[..., 0::2], x[..., 1::2]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], dim=-1)


def by_hand(x: Tensor, w: dict, config: LingConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the rows of the cache."""
    N, R, L = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
    V, H, T, zero = config.v_head_dim, config.num_attention_heads, x.shape[1], torch.zeros(())
    if config.q_lora_rank is None:
        q = x @ w[f"{NAME}.q_proj.weight"].T
    else:
        q = x @ w[f"{NAME}.q_a_proj.weight"].T + w.get(f"{NAME}.q_a_proj.bias", zero)
        q = norm(q, w[f"{NAME}.q_a_layernorm.weight"]) @ w[f"{NAME}.q_b_proj.weight"].T
    both = x @ w[f"{NAME}.kv_a_proj_with_mqa.weight"].T
    both = both + w.get(f"{NAME}.kv_a_proj_with_mqa.bias", zero)
    latent = norm(both[..., :L], w[f"{NAME}.kv_a_layernorm.weight"])
    k_rope = rotated(both[..., L:], config, positions)
    heads = []
    for h in range(H):
        own = q[..., h * (N + R) : (h + 1) * (N + R)]
        kv = latent @ w[f"{NAME}.kv_b_proj.weight"][h * (N + V) : (h + 1) * (N + V)].T
        scores = torch.einsum("btn,bsn->bts", own[..., :N], kv[..., :N])
        scores = scores + torch.einsum(
            "btr,bsr->bts", rotated(own[..., N:], config, positions), k_rope
        )
        later = torch.ones(T, T).triu(1) == 1
        scores = (scores / (N + R) ** 0.5).masked_fill(later, -torch.inf)
        heads.append(scores.softmax(-1) @ kv[..., N:])
    y = torch.cat(heads, dim=-1) @ w[f"{NAME}.dense.weight"].T + w.get(f"{NAME}.dense.bias", zero)
    return y, torch.cat([latent, k_rope], dim=-1)


def run(x, w, config, positions=POSITIONS, **rest):
    return mla_layer(x, w, config, layer=LAYER, positions=positions, **rest)


def empty(batch=2):
    return LatentCache(torch.zeros(batch, 0, 20, dtype=torch.float64))


@pytest.mark.statement(
    "MLA-12", "MLA-14", "MLA-15", "MLA-16", "MLA-17", "MLA-20", "MLA-22", "MLA-23", "CACHE-2"
)
@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_what_loops_and_einsums_give(name):
    config, w = small(**CONFIGS[name])
    x, cache = normal(2, 5, 32), empty()
    want, rows = by_hand(x, w, config, POSITIONS)
    assert_near(run(x, w, config, cache=cache), want)
    assert_near(cache.rows, rows)
    assert_near(run(x, w, config, absorbed=True), want)


@pytest.mark.statement("MLA-18", "MLA-19")
def test_the_eps_of_the_model_and_its_norm_of_queries_and_keys_are_others():
    config, w = small()
    x = normal(2, 5, 32) * 1e-3  # latents so small that an eps shows
    before = run(x, w, config)
    for changes in ({"rms_norm_eps": 0.5}, {"use_qk_norm": False}):
        assert torch.equal(run(x, w, dataclasses.replace(config, **changes)), before)
    assert_near(before, by_hand(x, w, config, POSITIONS)[0])


@pytest.mark.statement("MLA-21")
@pytest.mark.parametrize("absorbed", [True, False])
def test_padding_is_not_looked_at_and_gives_0(absorbed):
    config, w = small()
    x, valid = normal(2, 5, 32), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]) == 1
    y = run(x, w, config, valid=valid, absorbed=absorbed)
    assert_near(y[:1, 2:], run(x[:1, 2:], w, config, POSITIONS[:1, 2:]))
    assert_near(y[1:], run(x[1:], w, config, POSITIONS[1:]))
    assert torch.equal(y[0, :2], torch.zeros(2, 32, dtype=torch.float64))


@pytest.mark.statement("MLA-12", "MLA-13")
def test_the_square_of_mscale_is_in_mla_alone():
    both = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}  # the table's factor is 1
    one = {**YARN, "attention_factor": 1.0}
    (config, w), (other, _) = small(rope_scaling=both), small(rope_scaling=one)
    x = normal(2, 5, 32)
    assert not torch.allclose(run(x, w, config), run(x, w, other))
    linear = [lightning_layer(x, w, c, layer=0, positions=POSITIONS) for c in (config, other)]
    assert torch.equal(*linear)
    scaled = dataclasses.replace(other, rope_scaling={**YARN, "attention_factor": 2.0})
    assert not torch.allclose(run(x, w, scaled), run(x, w, other))
    twice = lightning_layer(x, w, scaled, layer=0, positions=POSITIONS)
    assert not torch.allclose(twice, linear[1])


@pytest.mark.statement("MLA-22")
def test_flags_give_biases_to_the_projections_they_name():
    for rank, want in (
        (12, {"q_a_proj.bias", "kv_a_proj_with_mqa.bias", "dense.bias"}),
        (None, {"kv_a_proj_with_mqa.bias", "dense.bias"}),
    ):
        config, _ = small(use_qkv_bias=True, q_lora_rank=rank)
        names = {name.removeprefix(f"{NAME}.") for name, _ in layer_tensors(config, LAYER)}
        assert {n for n in names if n.endswith(".bias")} == want
        config, _ = small(use_bias=True, q_lora_rank=rank)  # that of Lightning layers
        assert not any(n.endswith(".bias") for n, _ in layer_tensors(config, LAYER))
