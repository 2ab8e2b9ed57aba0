"""A trace that is damaged is refused, and one that is not is read only where it is asked for."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingspec.golden import Recorder, TraceError, open_trace, trace
from lingspec.golden.names import in_order
from lingspec.golden.trace import seal

OFFICIAL = Path(__file__).parents[2] / "golden" / "data" / "official"
FOLDERS = sorted(p.name for p in OFFICIAL.iterdir() if p.is_dir())


def written(folder, **about):
    made = torch.Generator().manual_seed(0)
    with Recorder(folder, **about) as trace:
        for n in range(3):
            trace.add(f"layers.{n}.output", torch.randn(2, 3, 4, generator=made))
    return folder


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def edited(folder, change):
    """The manifest, changed by somebody who knows its digest."""
    body = json.loads((folder / "manifest.json").read_text())
    change(body)
    body["digest"] = seal(body)
    (folder / "manifest.json").write_text(json.dumps(body))


def cut(folder):
    file = shards(folder)[0]
    file.write_bytes(file.read_bytes()[:-5])


def flip(folder):
    file = shards(folder)[0]
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")


def lose_a_tensor(folder):
    file = shards(folder)[0]
    save_file(dict(list(load_file(file).items())[1:]), file)


def lose_a_file(folder):
    shards(folder)[0].unlink()


def widen(folder):
    file = shards(folder)[0]
    save_file({name: x.double() for name, x in load_file(file).items()}, file)


def not_json(folder):
    file = folder / "manifest.json"
    file.write_bytes(file.read_bytes()[:-9])


def a_list(folder):
    (folder / "manifest.json").write_text("[]")


def another_number(folder):
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"hidden_size": 8', '"hidden_size": 9'))


def another_schema(folder):
    edited(folder, lambda body: body.update(schema="lingspec.trace/9"))


def without_shapes(folder):
    edited(folder, lambda body: body["tensors"][1].pop("shape"))


def words_for_sizes(folder):
    edited(folder, lambda body: body["tensors"][1].update(shape=["a"]))


def a_list_for_a_configuration(folder):
    edited(folder, lambda body: body.update(config=[]))


def twice(folder):
    edited(folder, lambda body: body["tensors"].append(body["tensors"][0]))


DAMAGE = {
    cut: "cannot be read", flip: "layers.2.output is not what was recorded",
    lose_a_tensor: "has no tensor layers.0.output, which the manifest says it has",
    lose_a_file: "which the manifest names",
    widen: "is float64 (2, 3, 4), but must be float32 (2, 3, 4), as the manifest says",
    not_json: "manifest.json is not JSON", a_list: "holds list, but must hold an object",
    another_number: "manifest.json is not what was recorded",
    another_schema: "has schema 'lingspec.trace/9', but must have 'lingspec.trace/1'",
    without_shapes: "manifest.json is not a trace's: KeyError('shape')",
    words_for_sizes: "manifest.json is not a trace's: ValueError(",
    a_list_for_a_configuration: "manifest.json is not a trace's: config must be an object",
    twice: "names a tensor twice",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_a_damaged_trace_is_refused_and_the_damage_named(tmp_path, damage):
    written(tmp_path, config={"hidden_size": 8})
    assert len(dict(open_trace(tmp_path))) == 3
    damage(tmp_path)
    with pytest.raises(TraceError) as refused:
        dict(open_trace(tmp_path))
    assert DAMAGE[damage] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(TraceError, match="no folder"):
        open_trace(tmp_path / "nothing")
    with pytest.raises(TraceError, match=r"has no manifest\.json and no trace\.safetensors"):
        open_trace(tmp_path)
    (tmp_path / "trace.safetensors").write_bytes(b"no")
    with pytest.raises(TraceError, match="cannot be read"):
        open_trace(tmp_path)


def test_a_tensor_is_read_when_it_is_asked_for_and_not_before(tmp_path, monkeypatch):
    written(tmp_path, shard_mib=2**-12)
    read = []

    def spy(x):
        read.append(x.shape)
        return digest_of(x)

    digest_of = trace.sha256
    monkeypatch.setattr(trace, "sha256", spy)
    made = open_trace(tmp_path)
    assert "layers.1.output" in made
    assert made.entries["layers.1.output"].shape == (2, 3, 4)
    assert not read
    made["layers.1.output"]
    assert len(read) == 1


@pytest.mark.parametrize("name", FOLDERS)
def test_traces_of_the_released_code_open(name):
    read = open_trace(OFFICIAL / name)
    held = load_file(OFFICIAL / name / "trace.safetensors")
    assert set(read) == set(held)
    assert all(torch.equal(x, held[name]) for name, x in read.items())
    assert read.precision == ("bfloat16" if name == "bf16" else "float32")
    assert read.config["num_hidden_layers"] >= 8


def test_names_stand_in_the_order_of_calls_layers_and_parts():
    names = [
        "input_ids",
        "positions",
        "attention_mask",
        "prefill.input_ids",
        "prefill.embeddings",
        "prefill.layers.0.attention",
        "prefill.layers.0.mlp",
        "prefill.layers.0.output",
        "prefill.layers.9.attention",
        "prefill.layers.9.router_logits",
        "prefill.layers.9.topk_idx",
        "prefill.layers.9.topk_weight",
        "prefill.layers.9.mlp",
        "prefill.layers.9.output",
        "prefill.layers.10.attention",
        "prefill.final_norm",
        "prefill.logits",
        "prefill.layers.11.output",
        "prefill.mtp_logits",
        "decode.2.logits",
        "decode.10.embeddings",
        "decode.10.layers.3.attention",
        "decode.10.logits",
        "cache.2.state",
        "cache.10.rows",
        "unheard_of",
    ]
    for seed in range(20):
        shuffled = random.Random(seed).sample(names, len(names))
        assert in_order(shuffled, layers=11) == names
