"""The synthetic checkpoint: equal bits however and wherever it is made."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import SMALL

from lingspec.reference import LingConfig, LingModel
from lingspec.reference.layout import tensors
from lingspec.reference.synthetic import Synthetic, keys, recipe

WIDE = Synthetic(SMALL, 0, torch.float32)


def in_numpy(name, shape, seed):
    """Once more, from the documentation: uint32 wraps, and shifts are logical."""
    factor, offset = keys(name, seed)
    count = int(np.prod(shape))
    x = np.arange(-(-count // 4), dtype=np.uint32) * np.uint32(factor) + np.uint32(offset)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    b = x.view(np.int8)[:count].astype(np.float64)
    how = recipe(SMALL, name, shape)
    y = 1 + np.floor(b / 8) * 2.0**-7 if how.around_one else (2 * b + 1) * 2.0**how.exponent
    return y.reshape(shape)


@pytest.mark.statement("SYN-1")
@pytest.mark.parametrize("seed", [0, 7])
def test_numpy_makes_the_same_numbers(seed):
    made = Synthetic(SMALL, seed, torch.float64)
    for name, shape in tensors(SMALL):
        assert np.array_equal(made[name].numpy(), in_numpy(name, shape, seed)), name


@pytest.mark.statement("SYN-2")
def test_all_numbers_are_exact_in_bfloat16_but_for_the_router_s_bias():
    narrow = Synthetic(SMALL, 0)
    for name, x in WIDE.items():
        assert narrow[name].dtype == (torch.float32 if "expert_bias" in name else torch.bfloat16)
        assert torch.equal(narrow[name].float(), x), name


@pytest.mark.statement("SYN-3")
@given(first=st.integers(0, 48), rows=st.integers(0, 48), left=st.integers(0, 32), data=st.data())
def test_a_part_is_that_part_of_the_whole(first, rows, left, data):
    name = "model.layers.0.mlp.gate_proj.weight"
    right = data.draw(st.integers(left, 32))
    part = WIDE.part(name, slice(first, first + rows), slice(left, right))
    assert torch.equal(part, WIDE[name][first : first + rows, left:right])


@pytest.mark.statement("SYN-4")
def test_rows_are_rows_of_the_whole():
    name, index = "model.word_embeddings.weight", torch.tensor([[3, 3], [95, 0]])
    assert torch.equal(WIDE.rows(name, index), WIDE[name][index])


@pytest.mark.statement("SYN-5")
def test_a_long_tensor_is_made_in_pieces_that_fit_together():
    config = LingConfig.preset("ling-2.6-flash")
    made, name = Synthetic(config), "model.layers.7.mlp.experts.255.down_proj.weight"
    whole = made[name]
    assert torch.equal(made.rows(name, torch.arange(4096)), whole)
    for columns in (slice(0, 512), slice(1, 6), slice(509, 1024)):
        assert torch.equal(made.part(name, slice(100, 4000), columns), whole[100:4000, columns])
    assert abs(float(whole.float().mean())) < 1e-5


def test_no_memory_is_used_again_while_a_tensor_or_a_view_of_one_is_in_it():
    config = LingConfig.preset("ling-2.6-flash")
    made, names = Synthetic(config), [f"model.layers.7.mlp.experts.{e}" for e in range(9)]
    kept = [made[f"{name}.up_proj.weight"][3:5].mT for name in names]
    again = Synthetic(config)
    for name, view in zip(names, kept, strict=True):
        assert torch.equal(view, again.part(f"{name}.up_proj.weight", slice(3, 5)).mT)


def test_several_threads_may_read_at_once():
    made, names = Synthetic(LingConfig.preset("ling-2.6-flash")), [
        f"model.layers.7.mlp.experts.{e}.up_proj.weight" for e in range(12)
    ]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(made.__getitem__, names))
    for name, x in zip(names, read, strict=True):
        assert torch.equal(x[5], made.part(name, slice(5, 6))[0])


def test_memory_that_no_tensor_is_in_is_used_again():
    made, name = Synthetic(LingConfig.preset("ling-2.6-flash")), "model.layers.7.mlp.experts.0"
    places = {made[f"{name}.{kind}_proj.weight"].data_ptr() for kind in ("gate", "up", "down")}
    assert len(places) == 1


@pytest.mark.statement("SYN-6")
def test_tensors_and_seeds_differ():
    names = [n for n, s in tensors(SMALL) if s == (16, 32)]
    seen = {WIDE[n].numpy().tobytes() for n in names}
    seen |= {Synthetic(SMALL, 1, torch.float32)[n].numpy().tobytes() for n in names}
    assert len(seen) == 2 * len(names)


@pytest.mark.statement("SYN-7")
def test_activations_stay_of_order_1_and_every_expert_is_used():
    ids = torch.arange(96).view(3, 32)
    sizes, used = [], set()

    def tap(name, x):
        if name.endswith(".output"):
            sizes.append(float(x.square().mean().sqrt()))
        if name.endswith("topk_idx"):
            used.update((name, e) for e in x.flatten().tolist())

    logits = LingModel(SMALL, WIDE)(ids, tap=tap)
    assert all(0.5 < size < 4 for size in sizes), sizes
    assert len(used) == 4 * SMALL.num_experts
    assert 1 < float(logits.std()) < 10
    assert len(set(logits[0].argmax(-1).tolist())) > 8
