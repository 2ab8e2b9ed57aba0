"""A bundle is the call bit for bit, in its memory layout; half a bundle is none."""

from __future__ import annotations

import pytest
import torch
from judging import ATTENTION
from safetensors.torch import save

from lingspec.conformance.bundle import SCHEMA, BundleError, load, write
from lingspec.conformance.contracts import contract
from lingspec.conformance.findings import Finding

CASES = (
    "lightning_attention:authority.bf16.B2.T5.H2.K8.V8.state.slopes.normal.dense.1",
    "lightning_attention:strides.f32.B2.T5.H2.K8.V8.state.slopes.normal.stepped.1",
    "lightning_attention:strides.f32.B1.T3.H2.K8.V8.slopes.normal.far.1",
    "lightning_attention:packed.f16.H1.K8.V8.n3-0-4.slopes.normal.headfirst.1",
    "lightning_attention:gradients.f32.B1.T4.H2.K8.V8.slopes.normal.dense.3",
    "lightning_attention:authority.f32.B0.T0.H2.K8.V8.slopes.normal.dense.3",
    "lightning_decode:untouched.f64.B3.H2.K8.V8.P5.padding.none.normal.padded.2",
    "lightning_log_decay:authority.f32.H6.L0.N80.O1.0",
)
FINDING = Finding("authority", "wrong", "a case", excess=float("inf"))


def written(folder, case, call=None):
    call = contract(case.op).make(case) if call is None else call
    return write(
        folder, case, call, FINDING, target="t:f", candidate="f", precision="fp32", backward=True
    )


def parsed(text):
    return contract(text.partition(":")[0]).parse(text)


@pytest.mark.parametrize("text", CASES)
def test_what_is_loaded_is_what_was_written_bit_for_bit_in_the_same_layout(tmp_path, text):
    case = parsed(text)
    made, found = contract(case.op).make(case), load(written(tmp_path, case))
    assert (found.case, found.target, found.candidate) == (case, "t:f", "f")
    assert (found.precision, found.backward) == ("fp32", True)
    assert found.finding == FINDING.__dict__
    assert found.call.params == made.params
    assert (found.call.far, found.call.coherent) == (made.far, made.coherent)
    for kind in ("tensors", "cotangents"):
        stored, own = getattr(found.call, kind), getattr(made, kind)
        assert list(stored) == list(own)
        for name, x in own.items():
            assert torch.equal(stored[name], x)
            assert stored[name].stride() == x.stride()


def test_changed_values_are_kept(tmp_path):
    case = parsed(CASES[0])
    call = ATTENTION.make(case)
    changed = call.with_tensors(q=torch.zeros_like(call.tensors["q"]))
    assert not load(written(tmp_path, case, changed)).call.tensors["q"].any()


def test_a_case_too_large_to_store_is_made_again_from_its_string(tmp_path):
    case = parsed("lightning_attention:bf16.B3.T300.H6.K64.V64.slopes.normal.dense.1")
    path = written(tmp_path, case)
    assert path.stat().st_size < 10_000
    assert torch.equal(load(path).call.tensors["q"], ATTENTION.make(case).tensors["q"])


def test_no_part_of_a_bundle_is_a_bundle(tmp_path):
    whole = written(tmp_path, parsed(CASES[0])).read_bytes()
    part = tmp_path / "part.safetensors"
    for length in [*range(0, 64), *range(64, len(whole), 37), len(whole) - 1]:
        part.write_bytes(whole[:length])
        with pytest.raises(BundleError) as told:
            load(part)
        assert str(part) in str(told.value)
        assert "\n" not in str(told.value)


def test_no_half_written_file_is_left_behind(tmp_path):
    written(tmp_path, parsed(CASES[0]))
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


X = {"x": torch.zeros(2)}
ABOUT = {
    "schema": SCHEMA, "case": CASES[0], "target": "t", "candidate": "c", "precision": "fp32",
    "backward": "false", "params": "{}", "finding": "{}",
}  # fmt: skip
FOREIGN = {
    "no schema": (save(X), "has schema None, but must have lingspec.bundle/1"),
    "another schema": (save(X, {"schema": "x/2"}), "has schema x/2"),
    "no case": (save(X, {"schema": SCHEMA}), "does not say its case"),
    "no target": (save({}, {k: v for k, v in ABOUT.items() if k != "target"}), "its target"),
    "an unknown op": (save(X, {**ABOUT, "case": "nothing:f32.1"}), "no op 'nothing'"),
    "no such word": (save(X, {**ABOUT, "case": CASES[0].replace("dense", "x")}), "word 'x'"),
    "other tensors": (save(X, ABOUT), "lacks q"),
    "no JSON": (save({}, {**ABOUT, "finding": "{"}), "Expecting"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path, what):
    content, said = FOREIGN[what]
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=said) as told:
        load(path)
    assert "\n" not in str(told.value)


def test_a_tensor_of_another_shape_is_refused(tmp_path):
    case = parsed(CASES[0])
    tensors = {n: x.contiguous() for n, x in ATTENTION.make(case).tensors.items()}
    tensors["q"] = tensors["q"][:, :1].contiguous()
    path = tmp_path / "short.safetensors"
    path.write_bytes(save(tensors, {**ABOUT, "case": CASES[0]}))
    with pytest.raises(BundleError, match=r"has q \(2, 1, 2, 8\) torch.bfloat16, but must have"):
        load(path)


def test_a_folder_or_nothing_is_no_bundle(tmp_path):
    for path in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(BundleError, match="no bundle"):
            load(path)
