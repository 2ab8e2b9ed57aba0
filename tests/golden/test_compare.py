"""Equal calls agree; of others the first tensor that parts is named."""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from traces import BASE, OFFICIAL, copied, run, swap_experts

from lingspec.golden import Recorder, open_trace
from lingspec.golden.compare import compare
from lingspec.reference import lightning_log_decay

ONE_CALL = (
    "base", "base_long", "heads6", "left_padded", "no_q_lora", "no_qk_norm_two_dense",
    "remainder_layers", "top1", "yarn",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return run(tmp_path_factory.mktemp("traces") / "base")


# -- agreement ---------------------------------------------------------------------------------


def test_a_trace_agrees_with_itself_to_the_bit(base):
    found = compare(base, base, limit=0)
    assert (found.status, found.exit_code) == ("AGREE", 0)
    assert len(found.differences) == 48
    assert all(d.relative == d.row_relative == d.off == 0 for d in found.differences)


@pytest.mark.parametrize("name", ONE_CALL)
def test_the_reference_agrees_with_traces_of_the_released_code(tmp_path, name):
    found = compare(run(tmp_path, name), OFFICIAL / name)
    assert (found.status, found.missing_a, found.missing_b) == ("AGREE", (), ())
    assert 0 < max(d.relative for d in found.differences) < found.limit == 2e-5
    assert "golden/data/official/README.md" in found.because


def test_which_of_both_is_named_first_changes_no_verdict_and_no_number(base):
    one, other = compare(base, BASE), compare(BASE, base)
    assert {d.name: d.relative for d in one.differences} == {
        d.name: d.relative for d in other.differences
    }


def test_the_order_of_experts_is_free_and_their_weights_go_with_them(base, tmp_path):
    trace = open_trace(base)
    ids, weights = trace["layers.3.topk_idx"], trace["layers.3.topk_weight"]
    turned = {"layers__3__topk_idx": ids.flip(-1), "layers__3__topk_weight": weights.flip(-1)}
    assert compare(copied(tmp_path / "a", trace, **turned), base, limit=0).status == "AGREE"
    del turned["layers__3__topk_idx"]
    found = compare(copied(tmp_path / "b", trace, **turned), base)
    assert [d.name for d in found.beyond] == ["layers.3.topk_weight"]


def test_weights_of_a_token_with_other_experts_do_not_count_again(base, tmp_path):
    trace = open_trace(base)
    ids, weights = trace["layers.3.topk_idx"].clone(), trace["layers.3.topk_weight"].clone()
    ids[1, 2, 0] = next(e for e in range(16) if e not in ids[1, 2])
    weights[21 + 2] = 9
    changed = {"layers__3__topk_idx": ids, "layers__3__topk_weight": weights}
    found = compare(copied(tmp_path / "a", trace, **changed), base)
    assert [d.name for d in found.beyond] == ["layers.3.topk_idx"]
    assert (found.first.off, found.first.row) == (1, (1, 2))
    weights[21 + 3] = 9
    found = compare(copied(tmp_path / "b", trace, **changed), base)
    assert [d.name for d in found.beyond] == ["layers.3.topk_idx", "layers.3.topk_weight"]


def test_tokens_of_all_sequences_may_stand_in_one_axis(base, tmp_path):
    trace = open_trace(base)
    flat = {
        n.replace(".", "__"): x.flatten(0, 1) if x.dim() == 3 else x.view(2, 21, -1)
        for n, x in trace.items()
        if ".3." in n
    }
    assert compare(copied(tmp_path / "a", trace, **flat), base, limit=0).status == "AGREE"
    assert compare(base, tmp_path / "a", limit=0).status == "AGREE"


def test_rows_of_padding_do_not_count_and_others_do(tmp_path):
    for decode in (0, 4):
        right = open_trace(run(tmp_path / f"{decode}", "left_padded", decode=decode))
        at = "prefill." if decode else ""
        padding = right["attention_mask"] == 0
        names = [f"{at}layers.3.attention", f"{at}layers.3.topk_idx", f"{at}layers.3.topk_weight"]
        names += ["cache.3.rows"] if decode else []
        wrong = {}
        for name in names:
            x = right[name].clone()
            rows = padding if "cache" in name else padding[:, : 21 - decode]
            x.view(3, -1, x.shape[-1])[rows] = 7
            wrong[name] = x
        folder = copied(tmp_path / f"{decode}w", right, **wrong)
        assert compare(folder, right, limit=0).status == "AGREE"
        padded = int(padding.sum(1).argmax())
        for name in (names[0], "decode.2.logits") if decode else names[:1]:
            x = right[name].clone()
            x[padded, -1] += 1
            found = compare(copied(tmp_path / f"{decode}x", right, **{name: x}), right)
            assert (found.first.name, found.first.row) == (name, (padded, x.shape[1] - 1))


# -- divergence --------------------------------------------------------------------------------


def scale(name, row=4):
    def change(weights):
        weights[name] = weights[name].clone()
        weights[name][row] *= 1.3

    return change


def other_bias(weights):
    name = "model.layers.4.mlp.gate.expert_bias"
    weights[name] = weights[name].roll(1)


FAULTS = {
    "layers.2.mlp": swap_experts,
    "layers.3.attention": scale("model.layers.3.input_layernorm.weight"),
    "layers.5.router_logits": scale("model.layers.5.post_attention_layernorm.weight"),
    "layers.4.topk_idx": other_bias,
    "layers.0.mlp": scale("model.layers.0.mlp.up_proj.weight"),
    "final_norm": scale("model.norm.weight"),
    "logits": scale("lm_head.weight"),
    "embeddings": scale("model.word_embeddings.weight", int(open_trace(BASE)["input_ids"][1, 7])),
}


@pytest.mark.parametrize("first", FAULTS)
def test_one_wrong_weight_is_found_where_it_is(base, tmp_path, first):
    found = compare(run(tmp_path, change=FAULTS[first]), BASE)
    assert (found.status, found.exit_code, found.first.name) == ("DIFFER", 1, first)
    before, after = found.around()
    assert [d.name for d in (*before, found.first, *after)] == list(open_trace(base))[1:]
    assert not any(d.beyond for d in before)
    assert any(d.beyond for d in after) or first == "logits"


def test_the_slope_origin_of_one_layer_is_found_in_that_layer(base, tmp_path, monkeypatch):
    def mixed(heads, layer, count, *, origin):
        return lightning_log_decay(heads, layer, count, origin=0 if layer == 4 else origin)

    module = importlib.import_module("lingspec.reference.layers.lightning_layer")
    monkeypatch.setattr(module, "lightning_log_decay", mixed)
    found = compare(run(tmp_path), base)
    assert found.first.name == "layers.4.attention"
    assert (0, 0) not in found.first.off_rows  # nothing has decayed at the first token
    assert (0, 1) in found.first.off_rows


def test_one_wrong_token_is_not_hidden_by_any_number_of_right_ones(tmp_path):
    made = torch.Generator().manual_seed(0)
    x = torch.randn(1, 20000, 4, generator=made)
    right = {"layers.0.output": x}
    wrong, noisy = x.clone(), x * (1 + 0.02 * torch.randn(x.shape, generator=made))
    wrong[0, 777] = x[0, 778]
    traces = [tmp_path / name for name in ("right", "wrong", "noisy")]
    for folder, y in zip(traces, (right["layers.0.output"], wrong, noisy), strict=True):
        with Recorder(folder, precision="bfloat16") as recorder:
            recorder.add("layers.0.output", y)
    found = compare(traces[1], traces[0]).first
    assert found.relative < 3e-2 < found.row_relative
    assert (found.row, found.off, found.off_rows) == ((0, 777), 1, ((0, 777),))
    assert compare(traces[2], traces[0]).exit_code == 0


def test_a_tensor_that_one_trace_lacks_is_never_agreement(base, tmp_path):
    trace = open_trace(base)
    less = copied(tmp_path / "less", trace, layers__5__mlp=None)
    for pair, missing in (((less, base), "missing_a"), ((base, less), "missing_b")):
        found = compare(*pair)
        assert (found.status, found.exit_code) == ("INCOMPLETE", 3)
        assert getattr(found, missing) == ("layers.5.mlp",)
    worse = copied(tmp_path / "worse", trace, layers__5__mlp=None, logits=trace["logits"] * 1.1)
    assert compare(worse, base).exit_code == 1
    with Recorder(tmp_path / "other", precision="float32") as made:
        made.add("nothing that the model makes", torch.ones(1))
    assert compare(tmp_path / "other", base).exit_code == 3
    Recorder(tmp_path / "empty", precision="float32").save()
    assert compare(tmp_path / "empty", tmp_path / "empty").exit_code == 3


def test_another_shape_is_a_difference_and_named(base, tmp_path):
    x = open_trace(base)["logits"]
    for other in (x[:, -1:], x[..., :-1], x.view(2, 128, 21)):
        found = compare(copied(tmp_path, open_trace(base), logits=other.contiguous()), base)
        assert (found.exit_code, found.first.name) == (1, "logits")
        assert found.first.reason == f"shape {tuple(other.shape)} in A, (2, 21, 128) in B"
    found = compare(copied(tmp_path, open_trace(base), logits=x.long()), base)
    assert found.first.reason == "int64 in A, float32 in B"


def test_another_configuration_is_a_difference_and_named(base, tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    save_file(load_file(BASE / "trace.safetensors"), folder / "trace.safetensors")
    told = json.loads((BASE / "config.json").read_text())
    for change, named in (
        ({"rope_theta": 1e4}, ("rope_theta is 10000.0 in A, 600000.0 in B",)),
        ({"eos_token_id": 5, "dtype": "float32"}, ()),
        ({"architectures": ["Other"], "n_group": 2}, ("n_group is 2 in A, 4 in B",)),
        ({"architectures": 7, "n_group": 0}, ("n_group is 0 in A, 4 in B",)),
    ):
        (folder / "config.json").write_text(json.dumps({**told, **change}))
        found = compare(folder, base)
        assert [line for line in found.config if "architectures" not in line] == list(named)
        assert found.exit_code == (1 if named else 0)


def test_traces_of_other_inputs_are_not_compared(base, tmp_path):
    trace = open_trace(base)
    ids = trace["input_ids"].clone()
    ids[1, 3] += 1
    for other, said in (
        (ids, f"input_ids[1, 3] is {ids[1, 3]} in A, {ids[1, 3] - 1} in B"),
        (ids[:, 1:], "input_ids is (2, 20) in A, (2, 21) in B"),
    ):
        found = compare(copied(tmp_path, trace, input_ids=other.contiguous()), base)
        assert (found.status, found.exit_code) == ("NOT ONE CALL", 3)
        assert found.inputs == (said,)
        assert not found.differences
