"""Several runs in one pass over the weights."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import pytest
import torch
from small import SMALL, weights

from lingspec.reference import Call, CheckpointError, ContractError, LingModel
from lingspec.reference.synthetic import Synthetic

IDS = torch.arange(14).view(2, 7)
WIDE = Synthetic(SMALL, 0, torch.float64)


class Counted(Mapping):
    """Weights that count how often each was read, and may break off."""

    def __init__(self, of, until=None):
        self.of, self.read, self.until = of, Counter(), until

    def __getitem__(self, name):
        if self.until and self.until in name:
            raise CheckpointError(f"{name} cannot be read")
        self.read[name] += 1
        return self.of[name]

    def part(self, name, which):
        return self.of.part(name, which)

    def rows(self, name, index):
        return self.of.rows(name, index)

    def __iter__(self):
        return iter(self.of)

    def __len__(self):
        return len(self.of)

    def __contains__(self, name):
        return name in self.of


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def calls_of(model, origin, tap=lambda *_: None):
    """A prompt of 4 tokens and three steps, with a cache of their own."""
    cache = model.new_cache(2, decay_layer_origin=origin)
    return [
        Call(ids, cache=cache, decay_layer_origin=origin, tap=tap)
        for ids in (IDS[:, :4], IDS[:, 4:5], IDS[:, 5:6], IDS[:, 6:7])
    ]


@pytest.mark.statement("MODEL-15")
@pytest.mark.parametrize("absorbed", [False, True])
def test_prompt_and_steps_of_both_layer_origins_come_out_as_each_by_itself(absorbed):
    model = LingModel(SMALL, WIDE, absorbed=absorbed)
    together = model.together(calls_of(model, 1) + calls_of(model, 0))
    for origin, got in ((1, together[:4]), (0, together[4:])):
        (alone,) = model.together([Call(IDS, decay_layer_origin=origin)])
        close(torch.cat(got, dim=1), alone)
    assert not torch.allclose(together[0], together[4], rtol=1e-3)


def test_every_tensor_is_read_once_for_all_runs():
    counted = Counted(WIDE)
    model = LingModel(SMALL, counted)
    model.together(calls_of(model, 1) + calls_of(model, 0))
    counted.read.pop("model.norm.weight")  # of which the dtype is asked
    assert set(counted.read.values()) == {1}


@pytest.mark.statement("MOE-9")
def test_an_expert_that_no_token_is_routed_to_is_not_read():
    counted, used = Counted(WIDE), set()

    def tap(name, x):
        if name == "layers.3.topk_idx":
            used.update(x.flatten().tolist())

    LingModel(SMALL, counted)(IDS[:1, :2], tap=tap)
    read = {
        int(n.split(".")[5]) for n in counted.read if n.startswith("model.layers.3.mlp.experts")
    }
    assert read == used
    assert len(used) < SMALL.num_experts


def test_a_run_may_be_routed_as_one_before_it():
    model, routing, forced = LingModel(SMALL, WIDE), {}, {}

    def first(name, x):
        if name.endswith("topk_idx"):
            routing[name] = x

    def disturbed(name, x):
        if name == "embeddings":
            return x + 1.0
        forced[name] = x
        return routing.get(name)

    plain, other = model.together([Call(IDS, tap=first), Call(IDS, tap=disturbed)])
    assert any(not torch.equal(forced[name], routing[name]) for name in routing)
    again = dict(routing)
    (alone,) = model.together(
        [Call(IDS, tap=lambda n, x: x + 1.0 if n == "embeddings" else again.get(n))]
    )
    close(other, alone)
    assert not torch.allclose(other, plain, rtol=1e-3)


def test_progress_is_told_after_every_layer():
    told = []
    LingModel(SMALL, WIDE).together([Call(IDS)], done=lambda n, of: told.append((n, of)))
    assert told == [(n + 1, 5) for n in range(5)]


@pytest.mark.statement("CACHE-11")
def test_an_error_leaves_the_cache_as_it_was():
    model = LingModel(SMALL, WIDE)
    cache, other = model.new_cache(2), model.new_cache(2)
    for one in (cache, other):
        model(IDS[:, :4], cache=one)
    with pytest.raises(CheckpointError, match=r"layers\.3"):
        LingModel(SMALL, Counted(WIDE, until="layers.3.mlp.gate."))(IDS[:, 4:], cache=cache)
    close(model(IDS[:, 4:], cache=cache), model(IDS[:, 4:], cache=other))


@pytest.mark.statement("CACHE-10")
def test_positions_must_go_on_where_the_cache_ends():
    model = LingModel(SMALL, WIDE)
    cache = model.new_cache(2)
    model(IDS[:, :4], cache=cache)
    with pytest.raises(ContractError, match=r"positions has first values \[3, 4\].*\[4, 4\]"):
        model(IDS[:, 4:5], torch.tensor([[3], [4]]), cache=cache)
    model(IDS[:, 4:5], torch.tensor([[4], [4]]), cache=cache)


@pytest.mark.statement("CACHE-4")
def test_by_default_positions_count_on_from_those_that_were_given():
    model = LingModel(SMALL, WIDE)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache, other = model.new_cache(2), model.new_cache(2)
    model(IDS[:, :4], positions, mask, cache)
    model(IDS[:, :4], positions, mask, other)
    assert cache.due.tolist() == [2, 4]
    close(
        model(IDS[:, 4:5], cache=cache), model(IDS[:, 4:5], torch.tensor([[2], [4]]), cache=other)
    )


@pytest.mark.statement("CACHE-8")
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda m: m.new_cache(3), "cache has batch 3, but must have 2, as input_ids"),
        (lambda m: m.new_cache(2, decay_layer_origin=0),
         "cache has decay_layer_origin 0, but must have 1, as the model"),
        (lambda _: LingModel(SMALL, Synthetic(SMALL, 0)).new_cache(2),
         "cache has dtype torch.bfloat16, but must have torch.float64, as the weights"),
    ],
)  # fmt: skip
def test_a_cache_of_something_else_is_refused(made, message):
    model = LingModel(SMALL, WIDE)
    with pytest.raises(ContractError) as refused:
        model(IDS, cache=made(model))
    assert str(refused.value) == message


@pytest.mark.statement("MODEL-16")
def test_a_dict_of_weights_is_checked_before_anything_runs():
    held = weights()
    held["model.layers.1.attention.dense.weight"] = held.pop(
        "model.layers.0.attention.dense.weight"
    )
    with pytest.raises(CheckpointError, match=r"lacks model.layers.0.attention.dense.weight"):
        LingModel(SMALL, held)
    held = weights()
    held["lm_head.weight"] = held["lm_head.weight"].mT
    want = r"lm_head.weight has shape \(32, 96\), but must have \(96, 32\)"
    with pytest.raises(CheckpointError, match=want):
        LingModel(SMALL, held)


WRONG = (
    (lambda x: x.double(), "has dtype torch.float64, but must have torch.float32, as the norms"),
    (lambda x: x.int(), "has dtype torch.int32"),
    (lambda x: x[:-1], r"has shape \(31, 32\), but must have \(32, 32\)"),
    (
        lambda x: x.index_put((torch.tensor(3), torch.tensor(5)), torch.tensor(torch.nan)),
        r"\[3, 5\] is nan, but must be finite",
    ),
    (lambda x: x.tolist(), "is a list, but must be a tensor"),
    (lambda x: x.to("meta"), "is on the device meta, but must have numbers"),
)


@pytest.mark.statement("MODEL-16")
@pytest.mark.parametrize(("change", "text"), WRONG)
def test_a_wrong_weight_is_named_at_once_in_a_dict_and_where_it_is_met_in_other_mappings(
    change, text
):
    held, name = weights(), "model.layers.2.attention.g_proj.weight"
    held[name] = change(held[name])
    with pytest.raises(CheckpointError, match=f"^{name}.*{text}"):
        LingModel(SMALL, held)
    lazy = LingModel(SMALL, MappingProxyType(held))
    with pytest.raises(CheckpointError, match=f"^{name}.*{text}"):
        lazy(IDS)


@pytest.mark.statement("MODEL-16")
def test_names_of_any_mapping_are_those_of_the_configuration():
    other = dataclasses.replace(SMALL, num_hidden_layers=4, num_nextn_predict_layers=0)
    with pytest.raises(CheckpointError, match=r"the checkpoint has unknown model\.layers\.4"):
        LingModel(other, MappingProxyType(weights()))
    with pytest.raises(CheckpointError, match="the checkpoint lacks"):
        LingModel(SMALL, Synthetic(other, 0, torch.float64))


def test_what_was_fp8_may_be_float32_in_a_narrower_model():
    held = {n: x.bfloat16() for n, x in weights().items()}
    name = "model.layers.2.attention.g_proj.weight"
    plain = LingModel(SMALL, dict(held))(IDS)
    held[name] = held[name].float()
    assert torch.equal(LingModel(SMALL, held)(IDS), plain)
    held["model.layers.2.mlp.gate.weight"] = held["model.layers.2.mlp.gate.weight"].float()
    with pytest.raises(CheckpointError, match=r"^model.layers.2.mlp.gate.weight has dtype"):
        LingModel(SMALL, held)


@pytest.mark.parametrize(
    ("config", "dtype", "text"),
    [
        (SMALL.to_dict(), None, "config has type dict, but must have LingConfig"),
        (SMALL, "float32", "dtype has value float32, but must have torch.float64"),
        (SMALL, torch.int8, "dtype has value torch.int8"),
    ],
)
def test_a_model_of_something_else_is_refused(config, dtype, text):
    with pytest.raises(ContractError, match=text):
        LingModel(config, weights(), dtype=dtype)
