"""Laws of lightning_layer, and the layer once more with loops and einsums."""

import pytest
import torch
from drawing import assert_near, normal
from small import small
from torch import Tensor

from lingspec.reference import LingConfig, lightning_log_decay
from lingspec.reference.cache import LightningCache
from lingspec.reference.layers import lightning_layer
from lingspec.reference.layout import layer_tensors

LAYER = 2
NAME = f"model.layers.{LAYER}.attention"
EPS = 0.03  # large enough to show
POSITIONS = torch.tensor([[3, 4, 5, 9, 10], [0, 1, 2, 3, 4]])
CONFIGS = {
    "as it is": {},
    "origin 0": {"decay_layer_origin": 0},
    "no norm of q and k": {"use_qk_norm": False},
    "biases": {"use_bias": True, "use_qkv_bias": True},
    "six heads": {"num_attention_heads": 6, "num_key_value_heads": 6, "group_norm_size": 3},
}


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


def rotated(x: Tensor, config: LingConfig, positions: Tensor) -> Tensor:
    """(B, T, H, K), the pairs of the first R dims as complex numbers."""
    R = config.head_dim // 2
    f = config.rope_theta ** (-torch.arange(0, R, 2, dtype=torch.float64) / R)
    angle = positions[:, :, None, None].double() * f
    turned = torch.complex(x[..., : R // 2], x[..., R // 2 : R]) * torch.polar(
        torch.ones_like(angle), angle
    )
    return torch.cat([turned.real, turned.imag, x[..., R:]], dim=-1)


def by_hand(x: Tensor, w: dict, config: LingConfig, positions: Tensor, S: Tensor):
    (B, T, _), H, K = x.shape, config.num_attention_heads, config.head_dim
    zero = torch.zeros(())
    qkv = x @ w[f"{NAME}.query_key_value.weight"].T + w.get(f"{NAME}.query_key_value.bias", zero)
    q, k, v = (part.reshape(B, T, H, K) for part in qkv.split(H * K, dim=-1))
    if config.use_qk_norm:
        q = norm(q, w[f"{NAME}.query_layernorm.weight"])
        k = norm(k, w[f"{NAME}.key_layernorm.weight"])
    q, k = rotated(q, config, positions), rotated(k, config, positions)
    decay = lightning_log_decay(
        H, LAYER, config.num_hidden_layers, origin=config.decay_layer_origin
    ).double().exp()  # fmt: skip
    rows = []
    for t in range(T):
        S = decay[:, None, None] * S + torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t])
        rows.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S) * K**-0.5)
    o = torch.stack(rows, dim=1).reshape(B, T, H * K)
    groups = o.split(H * K // config.group_norm_size, dim=-1)
    normed = torch.cat([norm(g, torch.ones(())) for g in groups], dim=-1)
    gate = torch.sigmoid(x @ w[f"{NAME}.g_proj.weight"].T)
    y = (normed * w[f"{NAME}.g_norm.weight"] * gate) @ w[f"{NAME}.dense.weight"].T
    return y + w.get(f"{NAME}.dense.bias", zero), S


def run(x, w, config, positions=POSITIONS, **rest):
    return lightning_layer(x, w, config, layer=LAYER, positions=positions, **rest)


@pytest.mark.statement(
    "LAYER-1", "LAYER-2", "LAYER-3", "LAYER-4", "LAYER-5", "LAYER-6", "LAYER-7", "LAYER-9",
    "LAYER-11", "LAYER-12", "GATE-2", "GATE-3",
)  # fmt: skip
@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_what_loops_and_einsums_give(name):
    config, w = small(rms_norm_eps=EPS, **CONFIGS[name])
    H, K = config.num_attention_heads, config.head_dim
    x, state = normal(2, 5, 32), normal(2, H, K, K, seed=1)
    cache = LightningCache(state)
    want, final = by_hand(x, w, config, POSITIONS, state)
    assert_near(run(x, w, config, cache=cache), want)
    assert_near(cache.state, final)
    want, _ = by_hand(x, w, config, POSITIONS, torch.zeros_like(state))
    assert_near(run(x, w, config), want)


@pytest.mark.statement("LAYER-2")
def test_the_memory_is_linear_in_v_alone():
    config, w = small()
    x, rows = normal(2, 5, 32), w[f"{NAME}.query_key_value.weight"]

    def memory():
        cache = LightningCache(torch.zeros(2, 4, 8, 8, dtype=torch.float64))
        run(x, w, config, cache=cache)
        return cache.state

    before = memory()
    rows[64:] *= 2  # behind 32 rows of q and 32 of k
    assert torch.equal(memory(), 2 * before)
    rows[:64] *= 2
    assert_near(memory(), 2 * before, 1e-5)  # but for eps, norms take the scale out


@pytest.mark.statement("LAYER-8")
@pytest.mark.parametrize("cached", [True, False])
def test_padding_on_the_left_leaves_nothing_in_the_memory(cached):
    config, w = small()
    x, valid = normal(2, 5, 32), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]) == 1
    caches = [
        LightningCache(torch.zeros(n, 4, 8, 8, dtype=torch.float64)) if cached else None
        for n in (2, 1)
    ]
    y = run(x, w, config, valid=valid, cache=caches[0])
    alone = run(x[:1, 2:], w, config, POSITIONS[:1, 2:], cache=caches[1])
    assert_near(y[:1, 2:], alone)
    assert_near(y[1:], run(x[1:], w, config, POSITIONS[1:]))
    if cached:
        assert_near(caches[0].state[:1], caches[1].state)


@pytest.mark.statement("LAYER-10")
def test_flags_give_biases_to_the_projections_they_name():
    def biases(**flags):
        config, _ = small(**flags)
        names = (name for name, _ in layer_tensors(config, LAYER))
        return {n.removeprefix(f"{NAME}.") for n in names if n.endswith(".bias")}

    assert biases() == set()
    assert biases(use_qkv_bias=True) == {"query_key_value.bias"}
    assert biases(use_bias=True) == {"dense.bias"}
    config, w = small(use_bias=True, use_qkv_bias=True)
    x = normal(2, 5, 32)
    before = run(x, w, config)
    w[f"{NAME}.dense.bias"] += 1
    assert_near(run(x, w, config), before + 1)
    w[f"{NAME}.query_key_value.bias"] += 1
    assert (run(x, w, config) - before - 1).abs().max() > 0.01
