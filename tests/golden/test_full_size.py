"""The run whose goldens are kept, on a small model, and the goldens themselves."""

import dataclasses

import pytest
import torch
from small import SMALL

from lingspec.golden import model_store
from lingspec.golden.full_size import Asked, full_size, token_ids
from lingspec.golden.recompute import differences, recomputed
from lingspec.golden.summary import summarize
from lingspec.reference import Call, LingModel
from lingspec.reference.synthetic import Synthetic

ASKED = Asked(prompt=5, steps=2)
WHOLE = full_size(ASKED, config=SMALL)


@pytest.mark.parametrize("origin", [0, 1])
def test_prompt_and_steps_are_summarised_as_one_run(origin):
    seen, ids = {}, token_ids(7, SMALL.vocab_size)
    model = LingModel(SMALL, Synthetic(SMALL, 0, torch.float64))
    model.together([Call(ids, tap=seen.__setitem__, decay_layer_origin=origin)])
    kept = WHOLE[origin]
    for name, x in seen.items():
        if name.endswith("topk_idx"):
            assert torch.equal(kept.routing[name].sort(-1).values, x.sort(-1).values)
        else:
            assert kept.summaries[name].apart(summarize(x)) < 2e-5, name
    assert kept.summaries.keys() - seen.keys() == {
        f"cache.{n}.{'rows' if SMALL.is_mla(n) else 'state'}" for n in range(5)
    }
    last = seen["logits"][0, -1]
    assert float((kept.logits.double() - last).norm() / last.norm()) < 2e-5  # as traces are held
    assert tuple(kept.top_ids.shape) == (7, SMALL.vocab_size)


def test_the_origins_differ_and_the_noise_is_that_of_its_format():
    one, zero = WHOLE[1], WHOLE[0]
    assert one.summaries["cache.0.state"].apart(zero.summaries["cache.0.state"]) > 1e-2
    for outcome in (one, zero):
        assert 1e-8 < outcome.noise["float32"]["layers.4.output"] < 1e-5
        assert 1e-3 < outcome.noise["bfloat16"]["layers.4.output"] < 1e-1
        assert outcome.noise["bfloat16"]["layers.0.attention"] == 0  # norms undo nothing here


def test_fewer_layers_are_the_first_layers():
    some = full_size(ASKED, config=SMALL, layers=2)[1]
    assert some.logits is None
    assert "layers.2.output" not in some.summaries
    assert not differences(WHOLE[1], some, layers=2)
    missing = {d.name for d in differences(WHOLE[1], some)}
    stored, there = WHOLE[1], {*some.summaries, *some.routing}
    assert missing == {n for n in (*stored.summaries, *stored.routing) if n not in there}
    assert len(some.summaries) > 8


def test_another_routing_and_other_last_logits_differ_though_all_summaries_agree():
    was = WHOLE[1]
    routing = {n: x.clone() for n, x in was.routing.items()}
    routing["layers.3.topk_idx"][0, 2] = torch.tensor(
        sorted(set(range(8)) - set(routing["layers.3.topk_idx"][0, 2].tolist()))[:2]
    )
    (found,) = differences(was, dataclasses.replace(was, routing=routing))
    assert (found.name, found.row) == ("layers.3.topk_idx", 2)
    assert "0.14 of the tokens sent to other experts" in str(found)
    (found,) = differences(was, dataclasses.replace(was, logits=was.logits.roll(1)))
    assert found.name == "logits of the last token"


def test_what_is_stored_is_read_back(tmp_path):
    model_store.write(ASKED, 1, WHOLE[1], reason="a test", cost={"minutes": 0}, place=tmp_path)
    stored = model_store.read("ling-2.5-1t.origin-1", tmp_path)
    assert (stored.asked, stored.origin) == (ASKED, 1)
    assert stored.outcome.noise == WHOLE[1].noise
    assert torch.equal(stored.outcome.logits, WHOLE[1].logits)
    for name, kept in WHOLE[1].summaries.items():
        got = stored.outcome.summaries[name]
        assert got.shape == kept.shape
        for part in ("sketch", "rows", "blocks", "places", "values"):
            assert torch.equal(getattr(got, part), getattr(kept, part)), (name, part)
    for name, x in WHOLE[1].routing.items():
        assert torch.equal(stored.outcome.routing[name], x)


def test_a_golden_that_was_edited_is_refused(tmp_path):
    model_store.write(ASKED, 1, WHOLE[1], reason="a test", cost={}, place=tmp_path)
    arrays = tmp_path / "ling-2.5-1t.origin-1.safetensors"
    raw = bytearray(arrays.read_bytes())
    raw[-9] ^= 1
    arrays.write_bytes(raw)
    with pytest.raises(model_store.GoldenError, match="is not what"):
        model_store.read("ling-2.5-1t.origin-1", tmp_path)
    arrays.unlink()
    with pytest.raises(model_store.GoldenError, match="cannot be read"):
        model_store.read("ling-2.5-1t.origin-1", tmp_path)
    with pytest.raises(model_store.GoldenError, match="no golden 'ling-9'"):
        model_store.read("ling-9", tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "where"),
    [
        ("model.layers.1.attention.dense.weight", lambda x: x.roll(1, 0), "layers.1.attention"),
        ("model.layers.2.mlp.gate.weight", lambda x: -x, "layers.2.router_logits"),
        ("model.layers.3.attention.kv_a_layernorm.weight", lambda x: 1.01 * x, "cache.3.rows"),
        ("model.layers.4.mlp.shared_experts.up_proj.weight", lambda x: 0 * x, "layers.4.mlp"),
        ("model.norm.weight", lambda x: x.flip(0), "final_norm"),
    ],
)
def test_a_changed_weight_shows_at_its_layer(name, change, where):
    held = dict(Synthetic(SMALL, 0, torch.float32))
    held[name] = change(held[name])
    wrong = [d.name for d in differences(WHOLE[1], full_size(ASKED, config=SMALL, weights=held)[1])]
    layer = where.rpartition(".")[0]
    first = [n for n in wrong if n.startswith(layer)] if layer else wrong
    assert where in first
    assert all(not n.startswith("layers.0") for n in wrong)


def test_the_first_layers_of_the_true_size_come_out_as_stored():
    stored = [model_store.read(f"ling-2.5-1t.origin-{origin}") for origin in (1, 0)]
    for _, different, count in recomputed(stored, layers=5):
        assert not different, "\n".join(map(str, different))
        assert count == 1 + 4 * 4 + 6


def test_goldens_of_the_true_size_are_whole():
    for name in model_store.names():
        stored = model_store.read(name)
        assert len(stored.outcome.routing) == 76
        assert stored.outcome.logits.shape == (157184,)
        assert stored.outcome.top_ids.shape == (20, 256)
        assert stored.manifest["made_by"]["peakGiB"] < 8
        assert all(
            len(set(row)) == 8 for x in stored.outcome.routing.values() for row in x[0].tolist()
        )
        used = {e for x in stored.outcome.routing.values() for e in x.flatten().tolist()}
        assert used == set(range(256))
