"""Checkpoints on disk: what is read, when, and what is refused."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file
from small import SMALL, weights

from lingspec.reference import CheckpointError, LingModel, open_checkpoint
from lingspec.reference.ops import fp8_dequantize, fp8_quantize

NORM = "model.norm.weight"
EXPERT = "model.layers.1.mlp.experts.3.up_proj.weight"


def written(folder, tensors, shards=1):
    names = list(tensors)
    told = {**dataclasses.asdict(SMALL), "architectures": ["BailingMoeV2_5ForCausalLM"]}
    told.pop("decay_layer_origin")
    (folder / "config.json").write_text(json.dumps(told))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    where = {}
    for n in range(shards):
        file = f"model-{n + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in names[n::shards]}, folder / file)
        where |= dict.fromkeys(names[n::shards], file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.statement("CKPT-2", "CKPT-3")
@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_comes_as_it_was_written(tmp_path, shards):
    tensors = weights()
    read = open_checkpoint(written(tmp_path, tensors, shards))
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name], x) for name, x in tensors.items())
    assert read.config == dataclasses.replace(SMALL, eos_token_id=1)
    ids = torch.tensor([[5, 0, 5]])
    name = "model.word_embeddings.weight"
    assert torch.equal(read.rows(name, ids), tensors[name][ids])
    # Tensors of a file begin at any 8 bytes: there, products may be summed in another order.
    elsewhere = {name: read[name].clone() for name in read}
    assert torch.equal(LingModel(SMALL, elsewhere)(ids), LingModel(SMALL, tensors)(ids))


@pytest.mark.statement("MOE-9")
def test_only_experts_that_are_routed_to_are_read():
    touched, routed = set(), set()

    class Counting(dict):
        def __getitem__(self, name):
            touched.add(name)
            return super().__getitem__(name)

    def tap(name, x):
        if name.endswith("topk_idx"):
            routed.update((int(name.split(".")[1]), e) for e in x.flatten().tolist())

    LingModel(SMALL, Counting(weights()))(torch.tensor([[5, 9]]), tap=tap)
    read = {tuple(n.split(".")) for n in touched}
    experts = {(int(p[2]), int(p[5])) for p in read if len(p) > 5 and p[4] == "experts"}
    assert experts == routed
    assert len(experts) < 4 * SMALL.num_experts


@pytest.mark.statement("CKPT-7")
@pytest.mark.parametrize("block", [None, (128, 128)])
def test_fp8_comes_multiplied_by_its_scales(tmp_path, block):
    tensors = weights()
    q, scale = fp8_quantize(tensors[EXPERT], block=block)
    tensors |= {EXPERT: q, f"{EXPERT}_scale": scale}
    read = open_checkpoint(written(tmp_path, tensors))
    assert torch.equal(read[EXPERT], q.float() * scale)
    assert f"{EXPERT}_scale" not in read


def broken(change):
    tensors = weights()
    change(tensors)
    return tensors


WRONG = {
    "a missing tensor": (lambda t: t.pop(NORM), f"lacks {NORM}"),
    "an unknown tensor": (lambda t: t.update(x=torch.zeros(1)), "has unknown x"),
    "a swapped name": (
        lambda t: t.update({NORM + "s": t.pop(NORM)}), f"lacks {NORM}",
    ),
    "a shape": (
        lambda t: t.update({NORM: torch.zeros(31)}), "has shape (31,), but must have (32,)"
    ),
    "a dtype": (lambda t: t.update({NORM: t[NORM].int()}), f"{NORM} has dtype I32"),
    "fp8 without a scale": (
        lambda t: t.update({EXPERT: t[EXPERT].to(torch.float8_e4m3fn)}), "is FP8 and has no",
    ),
    "a scale of another shape": (
        lambda t: t.update({EXPERT: t[EXPERT].to(torch.float8_e4m3fn),
                            f"{EXPERT}_scale": torch.ones(3, 1)}),
        "has shape (3, 1), but must have (1, 1) or (16, 1)",
    ),
}  # fmt: skip


@pytest.mark.statement("CKPT-4")
@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_as_the_configuration_says_is_named_before_anything_runs(tmp_path, what):
    change, text = WRONG[what]
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(written(tmp_path, broken(change)))
    assert text in str(refused.value)


@pytest.mark.statement("CKPT-4")
def test_many_faults_are_counted(tmp_path):
    with pytest.raises(CheckpointError, match=r"lacks .* and \d+ more"):
        open_checkpoint(written(tmp_path, {NORM: weights()[NORM]}))


@pytest.mark.statement("CKPT-5")
def test_a_nan_is_named_when_it_is_read(tmp_path):
    tensors = weights()
    tensors[EXPERT][2, 5] = float("nan")
    read = open_checkpoint(written(tmp_path, tensors))
    with pytest.raises(
        CheckpointError, match=r"up_proj\.weight\[2, 5\] is nan, but must be finite"
    ):
        read[EXPERT]


@pytest.mark.statement("CKPT-6")
def test_a_truncated_shard_a_missing_one_and_a_broken_index_are_named(tmp_path):
    folder = written(tmp_path, weights(), 3)
    shard = folder / "model-00002-of-00003.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=r"00002-of-00003\.safetensors cannot be read"):
        open_checkpoint(folder)
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00002.*, which the index names"):
        open_checkpoint(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not an index of shards"):
        open_checkpoint(folder)


@pytest.mark.statement("CKPT-6")
def test_an_index_that_names_a_tensor_in_the_wrong_shard_is_refused(tmp_path):
    folder = written(tmp_path, weights(), 2)
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"][NORM] = next(
        f for f in told["weight_map"].values() if f != told["weight_map"][NORM]
    )
    index.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=f"has no tensor {NORM}"):
        open_checkpoint(folder)


@pytest.mark.statement("CKPT-6")
def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        open_checkpoint(tmp_path, SMALL)


@pytest.mark.statement("CKPT-7", "CKPT-8", "FP8-6")
@pytest.mark.parametrize("scale_name", ["weight_scale", "weight_scale_inv"])
@pytest.mark.parametrize("block", [None, (128, 128)])
def test_a_model_over_fp8_is_the_model_over_the_dequantised_tensors(tmp_path, block, scale_name):
    stored, plain = weights(), weights()
    for name, x in weights().items():
        if name.endswith("_proj.weight") or "query_key_value" in name:
            q, scale = fp8_quantize(x, block=block)
            stored |= {name: q, name.removesuffix("weight") + scale_name: scale}
            plain[name] = fp8_dequantize(q, scale, block=block, dtype=torch.float32)
    read = open_checkpoint(written(tmp_path, stored, 2))
    assert set(read) == set(plain)
    assert len(stored) > len(plain)
    ids = torch.tensor([[5, 9, 7, 3]])
    logits = LingModel(SMALL, read)(ids)
    assert torch.equal(logits, LingModel(SMALL, plain)(ids))
    assert not torch.allclose(logits, LingModel(SMALL, weights())(ids))


@pytest.mark.statement("CKPT-9")
@pytest.mark.parametrize("buffer", ["model.layers.0.attention.slope", "model.rotary_emb.inv_freq"])
def test_buffers_that_are_computed_are_unknown(tmp_path, buffer):
    with pytest.raises(CheckpointError, match=f"has unknown {buffer}"):
        open_checkpoint(written(tmp_path, {**weights(), buffer: torch.zeros(4)}))


class Slices:
    """A file whose whole matrices must not be read."""

    def __init__(self, handle, name):
        self.handle, self.name = handle, name

    def get_tensor(self, name):
        assert name != self.name, "read whole"
        return self.handle.get_tensor(name)

    def get_slice(self, name):
        return self.handle.get_slice(name)


@pytest.mark.statement("CKPT-3")
@pytest.mark.parametrize("name", ["model.word_embeddings.weight", "lm_head.weight"])
def test_embedding_and_head_are_never_read_whole(tmp_path, name):
    read = open_checkpoint(written(tmp_path, weights()))
    read._handles = {file: Slices(handle, name) for file, handle in read._handles.items()}
    assert LingModel(SMALL, read)(torch.tensor([[1, 2]])).shape == (1, 2, 96)


@pytest.mark.statement("CKPT-5")
def test_a_nan_is_named_in_rows_and_parts_too(tmp_path):
    tensors = weights()
    for name in ("model.word_embeddings.weight", "lm_head.weight"):
        tensors[name][3, 5] = float("inf")
    read = open_checkpoint(written(tmp_path, tensors))
    with pytest.raises(CheckpointError, match=r"word_embeddings\.weight\[3, 5\] is inf"):
        read.rows("model.word_embeddings.weight", torch.tensor([[2, 3]]))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight\[3, 5\] is inf"):
        read.part("lm_head.weight", slice(2, 9))


@pytest.mark.statement("CKPT-4")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda where: {n: f"../{f}" for n, f in where.items()}, "must name files beside it"),
        (lambda where: {n: f"sub/{f}" for n, f in where.items()}, "must name files beside it"),
        (lambda where: {n: f for n, f in where.items() if n != EXPERT}, f"has {EXPERT}, which the"),
        (lambda where: dict.fromkeys(where, "x" * 5000), "lacks xxx"),
    ],
)
def test_an_index_that_does_not_say_where_tensors_are_is_refused(tmp_path, change, text):
    folder = written(tmp_path, weights(), 3)
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    index.write_text(json.dumps({**told, "weight_map": change(told["weight_map"])}))
    with pytest.raises(CheckpointError, match=text):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("scale", "text"),
    [
        (torch.full((16, 1), -1.0), "weight_scale has negative scales"),
        (torch.full((16, 1), torch.nan), r"weight_scale\[0, 0\] is nan"),
        (torch.ones(16, 1, dtype=torch.uint8), "weight_scale has dtype U8, but must have F64, F32"),
    ],
)
def test_a_scale_that_scales_nothing_is_named(tmp_path, scale, text):
    tensors = weights()
    q, _ = fp8_quantize(tensors[EXPERT], block=None)
    tensors[EXPERT], tensors[f"{EXPERT}_scale"] = q, scale
    with pytest.raises(CheckpointError, match=text):
        open_checkpoint(written(tmp_path, tensors))[EXPERT]


@pytest.mark.statement("CKPT-4", "MODEL-16")
@pytest.mark.parametrize("change", [{"vocab_size": 48}, {"vocab_size": 200}, {"num_experts": 16}])
def test_a_checkpoint_of_another_configuration_is_refused_before_anything_runs(tmp_path, change):
    read = open_checkpoint(written(tmp_path, weights()))
    with pytest.raises(CheckpointError, match=r"has shape|lacks"):
        LingModel(dataclasses.replace(SMALL, **change), read)
