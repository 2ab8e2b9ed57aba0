"""What is recorded comes back bit for bit, or not at all."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lingspec.golden import Recorder, TraceError, open_trace, recorder
from lingspec.golden.trace import DTYPES


def some(count, seed=0):
    made = torch.Generator().manual_seed(seed)
    return {f"layers.{n}.output": torch.randn(2, 3, 4, generator=made) for n in range(count)}


def written(folder, tensors, **about):
    with Recorder(folder, **about) as made:
        for name, x in tensors.items():
            made.add(name, x)
    return folder


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


@pytest.mark.parametrize("name", DTYPES.values())
def test_every_bit_of_every_dtype_comes_back(tmp_path, name):
    dtype = getattr(torch, name)
    random_bits = torch.randint(0, 256, (5, 7, dtype.itemsize), dtype=torch.uint8)
    x = random_bits % 2 == 1 if dtype == torch.bool else random_bits.view(dtype)
    read = open_trace(written(tmp_path, {"x": x}))["x"]
    assert read.dtype == dtype
    assert read.shape == x.shape
    assert torch.equal(read.view(torch.uint8), x.contiguous().view(torch.uint8))


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor(2.5), torch.empty(0), torch.empty(3, 0, 2), torch.arange(6).view(2, 3).T,
        torch.ones(1).expand(3, 4), torch.randn(4, requires_grad=True),
        np.arange(9)[::-2], np.float32(2.5), np.arange(3, dtype=">f8"), np.ones((2, 3), order="F"),
    ],
    ids=lambda x: f"{type(x).__name__}{tuple(x.shape)}",
)  # fmt: skip
def test_any_layout_comes_back_rows_first(tmp_path, x):
    read = open_trace(written(tmp_path, {"x": x, "and another that is empty": torch.empty(0)}))["x"]
    assert read.is_contiguous()
    assert np.array_equal(
        read.numpy(), x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    )


def test_bfloat16_of_numpy_is_bfloat16_of_torch(tmp_path):
    kinds = pytest.importorskip("ml_dtypes")
    x = np.array([1.5, -2.0, np.inf])
    for kind in ("bfloat16", "float8_e5m2"):
        read = open_trace(written(tmp_path, {"x": x.astype(getattr(kinds, kind))}))["x"]
        assert torch.equal(read, torch.from_numpy(x).to(getattr(torch, kind)))


def test_a_tensor_is_recorded_as_it_was_when_it_was_added():
    made, x = Recorder(), torch.ones(3)
    made.add("x", x)
    x.zero_()
    assert made._held["x"].sum() == 3


@pytest.mark.parametrize("in_memory", [True, False])
def test_names_come_in_the_order_in_which_they_were_recorded(tmp_path, in_memory):
    tensors = dict(random.Random(1).sample(list(some(20).items()), 20))
    made = Recorder(None if in_memory else tmp_path, shard_mib=2**-12)
    for name, x in tensors.items():
        made(name, x)
    made.save(tmp_path)
    read = open_trace(tmp_path)
    assert list(read) == list(tensors)
    assert len(shards(tmp_path)) == 10
    assert all(torch.equal(read[name], x) for name, x in tensors.items())


def test_what_waits_in_memory_is_never_more_than_a_shard(tmp_path, monkeypatch):
    sizes = []

    def spy(tensors, *given, **named):
        sizes.append(sum(x.nbytes for x in tensors.values()))
        save_file(tensors, *given, **named)

    monkeypatch.setattr(recorder, "save_file", spy)
    with Recorder(tmp_path, shard_mib=2**-10) as made:
        for n in range(50):
            made.add(f"{n}", torch.zeros(60 + n))
            assert made._shards._bytes <= 1024
            assert sum(x.nbytes for x in made._shards._waiting.values()) == made._shards._bytes
        made.add("larger than a shard", torch.zeros(1000))
    assert max(sizes[:-1]) <= 1024
    assert sizes[-1] == 4000


REFUSED = {
    "no name": ((3, torch.ones(1)), "3 is no name of a tensor: it must be printable text"),
    "empty name": (("", torch.ones(1)), "'' is no name"),
    "line break": (("a\nb", torch.ones(1)), "is no name"),
    "reserved": (("__metadata__", torch.ones(1)), "is no name"),
    "list": (("x", [1.0]), "x is list, but must be a tensor of torch or an array of numpy"),
    "objects": (("x", np.array([object()])), "x is an array of object, but must be one of float64"),
    "text": (("x", np.array(["a"])), "x is an array of str"),
    "complex": (("x", torch.ones(1, dtype=torch.complex64)), "x is complex64, but must be one of"),
    "sparse": (("x", torch.eye(2).to_sparse()), "x is torch.sparse_coo on cpu, but must be dense"),
    "meta": (("x", torch.ones(2, device="meta")), "on meta, but must be dense and have values"),
    "twice": (("here", torch.ones(1)), "'here' is recorded already; tensors of another call go"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_trace_can_hold_is_refused_in_one_line(case):
    given, said = REFUSED[case]
    made = Recorder()
    made.add("here", torch.ones(1))
    with pytest.raises(TraceError) as refused:
        made.add(*given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"precision": "float31"}, "precision is float31, but must be one of float64"),
        ({"config": {"x": float("nan")}}, "a manifest cannot hold it"),
        ({"config": {"x": torch}}, "a manifest cannot hold it"),
        ({"inputs": {"input_ids": [1]}}, "input_ids is list"),
    ],
)
def test_what_no_manifest_can_hold_is_refused_before_anything_is_recorded(tmp_path, about, said):
    with pytest.raises(TraceError, match=said):
        Recorder(tmp_path / "t", **about)
    assert not (tmp_path / "t").exists()


def test_tensors_of_several_calls_stand_under_the_names_of_the_calls(tmp_path):
    made = Recorder()
    for step in range(2):
        made.under(f"decode.{step}")("logits", torch.full((1,), step))
    read = open_trace(made.save(tmp_path))
    assert {name: int(x) for name, x in read.items()} == {
        "decode.0.logits": 0,
        "decode.1.logits": 1,
    }


def test_a_finished_trace_takes_no_more(tmp_path):
    made = Recorder(tmp_path)
    assert made.save() == made.save() == tmp_path
    with pytest.raises(TraceError, match="'x' comes after the trace was saved"):
        made.add("x", torch.ones(1))
    with pytest.raises(TraceError, match="save needs a folder"):
        Recorder().save()
    with pytest.raises(TraceError, match=r"not in .*elsewhere"):
        made.save(tmp_path / "elsewhere")


KILLED = """
import os, signal, sys, torch
from lingspec.golden import Recorder
made = Recorder(sys.argv[1], shard_mib=2**-12)
for n in range(9):
    made.add(f"{n}", torch.zeros(40))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("before", [False, True])
def test_a_killed_recording_leaves_the_trace_that_was_there_or_none(tmp_path, before):
    tensors = some(3)
    if before:
        written(tmp_path, tensors)
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert killed.returncode < 0
    assert len(shards(tmp_path)) > 1
    if before:
        read = open_trace(tmp_path)
        assert all(torch.equal(read[name], x) for name, x in tensors.items())
        assert list(read) == list(tensors)
    else:
        with pytest.raises(TraceError, match="it is no trace, or its recording did not end"):
            open_trace(tmp_path)
    written(tmp_path, some(2, seed=5))
    assert len(shards(tmp_path)) == 1


def test_an_exception_while_recording_leaves_what_was_there(tmp_path):
    written(tmp_path, some(3))
    held = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError), Recorder(tmp_path, shard_mib=2**-12) as made:  # noqa: PT012 - it fails after it recorded
        for name, x in some(9, seed=5).items():
            made.add(name, x)
        raise ZeroDivisionError
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == held


def test_a_new_trace_replaces_the_old_one_and_equal_traces_are_equal_files(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    written(one, some(9), shard_mib=2**-12)
    for folder in (one, other):
        written(folder, some(3, seed=5))
    assert len(list(one.iterdir())) == 2
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes()


def test_a_recording_does_not_hide_a_trace_that_it_did_not_make(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "trace.safetensors")
    with pytest.raises(TraceError, match=r"has a trace\.safetensors, which no recording replaces"):
        Recorder(tmp_path)
