"""The commands about the model as a whole."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from small import SMALL

from lingspec.conformance.cli import main
from lingspec.conformance.verbs import golden as verb
from lingspec.golden import model_store, store
from lingspec.golden.full_size import Asked, full_size
from lingspec.reference import CheckpointError, LingModel, open_checkpoint
from lingspec.reference.synthetic import Synthetic

IDS = torch.arange(6)[None]


@pytest.fixture
def lingspec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.json").write_text(json.dumps(SMALL.to_dict()))
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def refused(result, code, said):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert said in result.stderr.strip().splitlines()[-1]


def test_the_model_is_told_in_numbers_that_come_out_of_its_configuration(lingspec, tmp_path):
    told = lingspec("model", "ling-2.5-1t")
    assert told.exit_code == 0, told.output
    numbers = ("1,012,231,160,320", "63,580,258,816", "11.25 KiB", "4 MiB", "68.625 KiB")
    for number in (*numbers, "70 Lightning"):
        assert number in told.stdout
    file = tmp_path / "config.json"
    file.write_text('{"architectures": ["LlamaForCausalLM"]}')
    refused(lingspec("model", file), 2, "must hold 'BailingMoeV2_5ForCausalLM'")
    refused(lingspec("model", "ling-3"), 2, "no preset and no file 'ling-3'; there are ling-2.5")


def test_synthetic_shards_are_a_checkpoint_of_the_released_layout(lingspec, tmp_path):
    told = lingspec("synth", "small.json", "--out", "made", "--shard-size", "0.001", "--seed", 3)
    assert told.exit_code == 0, told.output
    weights, made = open_checkpoint(tmp_path / "made"), Synthetic(SMALL, 3)
    assert weights.config.to_dict() == {**SMALL.to_dict(), "torch_dtype": "bfloat16"}
    for name, x in made.items():
        assert torch.equal(weights[name], x), name
        assert weights[name].dtype == x.dtype
    logits = LingModel(weights.config, weights, dtype=torch.float32)(IDS)
    assert torch.equal(logits, LingModel(SMALL, made, dtype=torch.float32)(IDS))


def test_shards_may_be_made_on_several_machines(lingspec, tmp_path):
    whole = ("synth", "small.json", "--shard-size", "0.00005")
    assert lingspec(*whole, "--out", "all").exit_code == 0
    for part in ("1/3", "3/3", "2/3"):
        assert lingspec(*whole, "--out", "parts", "--shard", part).exit_code == 0
    files = sorted(f.name for f in (tmp_path / "all").iterdir())
    assert len(files) > 5
    assert files == sorted(f.name for f in (tmp_path / "parts").iterdir())
    for file in files:
        assert (tmp_path / "all" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_digests_are_those_of_the_files_and_equal_from_torch_and_numpy(lingspec):
    told = [lingspec("synth", "small.json", "--digests", *more).stdout for more in
            ((), (), ("--array", "numpy"))]  # fmt: skip
    assert told[0] == told[1] == told[2]
    assert told[0].endswith("all 207 tensors\n")
    assert lingspec("synth", "small.json", "--digests", "--seed", 1).stdout != told[0]
    some = lingspec("synth", "small.json", "--digests", "--only", "*.expert_bias").stdout
    assert some.splitlines()[0] in told[0]
    assert some.endswith("all 5 tensors\n")


def test_one_matrix_of_the_true_size_is_equal_from_numpy(lingspec):
    only = ("--digests", "--only", "model.layers.79.mlp.experts.255.up_proj.weight")
    told = {
        lingspec("synth", "ling-2.5-1t", *only, "--array", a).stdout for a in ("torch", "numpy")
    }
    assert len(told) == 1


def test_what_cannot_be_written_is_refused_before_anything_is(lingspec, tmp_path):
    refused(lingspec("synth", "small.json"), 2, "say where to write it")
    refused(lingspec("synth", "ling-2.5-1t", "--out", "x/y"), 4, "2,024.5 GB are to be written")
    refused(lingspec("synth", "small.json", "--out", "x", "--shard", "2/2"), 2, "fewer than 2")
    refused(lingspec("synth", "small.json", "--digests", "--only", "q"), 2, "no tensor matches 'q'")
    refused(lingspec("synth", "--digests", "--out", "x"), 2, "--digests and --out are two")
    refused(lingspec("synth", "small.json", "--out", "x", "--only", "q"), 2, "are of --digests")
    refused(lingspec("synth", "small.json", "--out", "x", "--shard-size", "nan"), 2, "no number")
    assert not (tmp_path / "x").exists()
    (tmp_path / "made").mkdir()
    other = tmp_path / "made" / "config.json"
    other.write_text('{"architectures": ["LlamaForCausalLM"]}')
    refused(lingspec("synth", "small.json", "--out", "made"), 2, "is of another model")
    assert [f.name for f in (tmp_path / "made").iterdir()] == ["config.json"]


def test_shards_of_two_seeds_or_sizes_do_not_mix(lingspec, tmp_path):
    first = ("synth", "small.json", "--out", "made", "--shard-size", "0.0001", "--shard", "1/2")
    assert lingspec(*first).exit_code == 0
    before = sorted(f.name for f in (tmp_path / "made").iterdir())
    rest = (*first[:-1], "2/2")
    refused(lingspec(*rest, "--seed", 1), 2, "is of another seed or shard size")
    refused(lingspec(*rest[:4], "--shard-size", "0.0002"), 2, "is of another seed or shard size")
    assert sorted(f.name for f in (tmp_path / "made").iterdir()) == before
    with pytest.raises(CheckpointError, match="which the index names"):
        open_checkpoint(tmp_path / "made")
    assert lingspec(*rest).exit_code == 0
    assert len(open_checkpoint(tmp_path / "made")) == 207


def test_recipes_say_how_numbers_are_made(lingspec):
    told = lingspec("synth", "ling-2.5-1t", "--recipes").stdout
    assert "(2 b + 1) 2^-14         model.layers.*.mlp.experts.*.up_proj.weight" in told
    assert json.loads(lingspec("synth", "--recipes", "--json").stdout)["lm_head.weight"] == {
        "exponent": -12, "aroundOne": False, "is": "(2 b + 1) 2^-12",
    }  # fmt: skip


@pytest.fixture
def small_golden(tmp_path, monkeypatch):
    """A golden of a small model, in a place of its own."""

    def run(asked, **how):
        return full_size(asked, config=SMALL, **how)

    monkeypatch.setattr(verb, "full_size", run)
    monkeypatch.setattr("lingspec.golden.recompute.full_size", run)
    monkeypatch.setattr(model_store, "PLACE", tmp_path / "goldens")
    return "ling-2.5-1t.origin-1"


def test_goldens_are_recorded_listed_and_made_again(lingspec, small_golden, monkeypatch):
    told = lingspec("golden", "record", "--reason", "a test", "--prompt", 3, "--steps", 1)
    assert told.exit_code == 0, told.output
    assert "3 tokens and 1 steps in float32" in lingspec("golden", "list").stdout
    assert lingspec("golden", "check").exit_code == 0
    again = lingspec("golden", "check", "--golden", small_golden, "--layers", 3)
    assert (again.exit_code, again.stdout.splitlines()) == (
        0, [f"{small_golden}, 17 tensors: comes out as stored"],
    )  # fmt: skip
    wrong = Synthetic(SMALL, 1, torch.float32)
    monkeypatch.setattr(
        "lingspec.golden.recompute.full_size",
        lambda asked, **how: full_size(asked, config=SMALL, weights=wrong, **how),
    )
    again = lingspec("golden", "check", "--golden", small_golden)
    assert again.exit_code == 1
    assert "embeddings is" in again.stdout


def test_a_golden_that_is_not_there_or_not_whole_is_named(lingspec, small_golden):
    refused(lingspec("golden", "check", "--golden", small_golden), 2, "no golden 'ling-2.5-1t.or")
    place = model_store.write(
        Asked(prompt=2, steps=0), 1, full_size(Asked(prompt=2, steps=0), config=SMALL)[1],
        reason="a test", cost={"minutes": 0.0, "peakGiB": 0.0},
    )  # fmt: skip
    place.with_suffix(".safetensors").write_bytes(b"short")
    refused(lingspec("golden", "check"), 2, "is not what ling-2.5-1t.origin-1.json describes")


def test_layers_that_nobody_has_are_refused(lingspec, tmp_path):
    refused(lingspec("golden", "check", "--layers", 3), 2, "name it with --golden")
    one = ("golden", "check", "--golden", "ling-2.5-1t.origin-1", "--layers", 81)
    refused(lingspec(*one), 2, "--layers is 81, but the model has 80")
    refused(lingspec("model", "--plot", "no/such/x.png"), 2, "no folder no/such")


def test_goldens_of_the_ops_are_made_again(lingspec):
    told = lingspec("golden", "check", "--json")
    assert told.exit_code == 0, told.output
    assert len(json.loads(told.stdout)["found"]) == len(store.ENTRIES)
