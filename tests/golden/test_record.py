"""A trace of the reference is what the reference says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from lingspec.golden import digest, open_trace, record
from lingspec.golden.names import INPUTS, in_order
from lingspec.reference import ContractError, LingConfig, LingModel, open_checkpoint

OFFICIAL = Path(__file__).parents[2] / "golden" / "data" / "official"


def opened(name="base", dtype=None):
    weights = open_checkpoint(OFFICIAL / name)
    ids = open_trace(OFFICIAL / name)["input_ids"]
    return LingModel(weights.config, weights, dtype=dtype), ids


def test_a_trace_is_what_the_tap_sees_in_that_order(tmp_path):
    model, ids = opened()
    seen = {}
    model(ids, tap=seen.__setitem__)
    read = open_trace(record(model, ids, tmp_path))
    assert torch.equal(read["input_ids"], ids)
    assert list(read) == ["input_ids", *seen]
    assert all(torch.equal(read[name], x) for name, x in seen.items())
    shuffled = random.Random(0).sample(list(seen), len(seen))
    assert in_order(shuffled, model.config.num_hidden_layers) == list(seen)
    plain = open_trace(OFFICIAL / "base")
    assert [name for name in plain if name not in INPUTS] == list(seen)


@pytest.mark.parametrize("decode", [3, 21])
def test_decoded_steps_are_calls_through_the_cache(tmp_path, decode):
    model, ids = opened(dtype=torch.float64)
    read = open_trace(record(model, ids, tmp_path, decode=decode))
    whole = open_trace(record(model, ids, tmp_path / "whole"))["logits"]
    assert ("prefill.logits" in read) == (decode < 21)
    for n in range(decode):
        step = whole[:, 21 - decode + n]
        torch.testing.assert_close(read[f"decode.{n}.logits"][:, 0], step, rtol=1e-12, atol=1e-12)
    cache = model.new_cache(2)
    model(ids, cache=cache)
    torch.testing.assert_close(read["cache.0.state"], cache.layers[0].state, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(read["cache.3.rows"], cache.layers[3].rows, rtol=1e-12, atol=1e-12)
    assert in_order(read) == list(read)


def test_positions_and_padding_reach_the_model_and_the_trace(tmp_path):
    model, ids = opened(dtype=torch.float64)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    positions = 7 + (mask.cumsum(1) - 1).clamp(min=0)
    whole = model(ids, positions, mask)
    read = open_trace(
        record(model, ids, tmp_path, positions=positions, attention_mask=mask, decode=6)
    )
    assert torch.equal(read["positions"], positions)
    assert torch.equal(read["attention_mask"], mask)
    made = torch.cat([read["prefill.logits"], *(read[f"decode.{n}.logits"] for n in range(6))], 1)
    assert not torch.allclose(made[0, 4:], model(ids)[0, 4:])
    torch.testing.assert_close(made[mask == 1], whole[mask == 1], rtol=1e-12, atol=1e-12)


def test_what_a_tap_puts_in_place_of_a_tensor_is_recorded(tmp_path):
    model, ids = opened()
    names = []

    def tap(name, x):
        names.append(name)
        return x.flip(-1) + 0 if name == "decode.1.layers.2.attention" else None

    read = open_trace(record(model, ids, tmp_path, decode=2, tap=tap))
    free = open_trace(record(model, ids, tmp_path / "free", decode=2))
    assert set(read) == {*names, "input_ids", *(n for n in read if n.startswith("cache."))}
    changed = "decode.1.layers.2.attention"
    assert torch.equal(read[changed], free[changed].flip(-1))
    assert not torch.equal(read["decode.1.logits"], free["decode.1.logits"])


@pytest.mark.parametrize("name", ["base", "yarn", "no_q_lora"])
def test_the_manifest_says_what_ran(tmp_path, name):
    model, ids = opened(name, torch.float64)
    read = open_trace(record(model, ids, tmp_path, weights=model.weights, made_by={"by": "a test"}))
    assert LingConfig.from_dict(read.config) == model.config
    assert read.precision == "float64"
    assert read.meta["weights"] == digest(model.weights)
    assert read.meta["inputs"] == digest({"input_ids": ids})
    assert read.meta["made_by"] == {"by": "a test"}
    assert set(read.meta["versions"]) == {"lingspec", "torch", "python"}


def test_a_digest_is_of_names_dtypes_shapes_and_bits_and_not_of_their_order():
    x = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3])}
    others = [
        {"a": x["a"]}, {"a": x["a"], "c": x["b"]}, {"a": x["a"].view(1, 2), "b": x["b"]},
        {"a": x["a"].view(torch.int32), "b": x["b"]},
        {"a": torch.tensor([1.0, 2.0000002]), "b": x["b"]},
    ]  # fmt: skip
    assert digest(dict(reversed(x.items()))) == digest(x)
    assert len({digest(y) for y in [x, *others]}) == 6


def test_more_steps_than_tokens_are_refused(tmp_path):
    model, ids = opened()
    with pytest.raises(ContractError, match="decode has value 22, but must have a number of tok"):
        record(model, ids, tmp_path / "t", decode=22)
    assert not (tmp_path / "t").exists()
