"""Candidates that run elsewhere get the verdict that they would get here; two examples pass."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingspec.conformance.contracts import contract
from lingspec.conformance.verbs.offline import cases, judge

ROOT = Path(__file__).parents[2]
NUMPY, CPP = ROOT / "examples" / "numpy_offline", ROOT / "examples" / "cpp"


def written(folder, *ops, profile="smoke", files=(NUMPY / "answer.py",), seed=3):
    told = {"files": files, "profile_name": profile, "name": "mine", "precision": "float32=fp32"}
    assert cases(folder, ops, **told, seed=seed, as_json=True) == 0
    return json.loads((folder / "manifest.json").read_text())


def answered(folder):
    subprocess.run([sys.executable, NUMPY / "answer.py", folder], check=True)


def test_a_numpy_implementation_that_never_saw_this_suite_is_certified(tmp_path):
    folder, out = tmp_path / "cases", tmp_path / "out"
    written(folder, "rms_norm", "moe_route", profile="ci", seed=None)
    answered(folder)
    assert judge(folder, out, as_json=True) == 0
    told = json.loads((out / "certificate.json").read_text())
    assert told["predicate"]["device"] == "offline"
    assert told["predicate"]["seedDrawn"]
    assert sorted(told["predicate"]["ops"]) == ["moe_route", "rms_norm"]
    assert [s["name"].rpartition("/")[2] for s in told["subject"]] == ["answer.py"]


def test_a_wrong_answer_is_found_where_it_is(tmp_path, capsys):
    folder, out = tmp_path / "cases", tmp_path / "out"
    told = written(folder, "rms_norm")
    answered(folder)
    first = next(c for c in told["calls"] if min(c["inputs"]["x"][1]) > 0)
    file = folder / "calls" / f"{first['id']}.out.safetensors"
    y = load_file(file)["y"]
    y.view(-1)[-1] += 0.5
    save_file({"y": y}, file)
    assert judge(folder, out, as_json=False) == 1
    assert "y is further from the authority" in capsys.readouterr().out
    assert not (out / "certificate.json").exists()


def test_a_call_without_an_answer_makes_the_verdict_incomplete(tmp_path, capsys):
    folder = tmp_path / "cases"
    told = written(folder, "rms_norm")
    answered(folder)
    (folder / "calls" / f"{told['calls'][-1]['id']}.out.safetensors").unlink()
    assert judge(folder, tmp_path / "out", as_json=False) == 3
    assert "calls without an answer end 1 cases" in capsys.readouterr().out


def test_a_refused_call_is_not_supported_with_its_reason(tmp_path, capsys):
    folder = tmp_path / "cases"
    told = written(folder, "rms_norm")
    answered(folder)
    name = folder / "calls" / told["calls"][0]["id"]
    name.with_suffix(".refused.txt").write_text("rows are too\nshort")
    assert judge(folder, tmp_path / "out", as_json=False) == 0
    assert "NOT SUPPORTED 1, PASS 7 (rows are too short)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("candidate", 2, "is not the file that the cases"),
        ("torn", 1, "cannot be read"),
        ("lacking", 1, "lacks y"),
        ("manifest", 2, "does not describe cases"),
    ],
)
def test_what_does_not_fit_is_refused_or_found(tmp_path, fault, code, said):
    mine = tmp_path / "answer.py"
    shutil.copy(NUMPY / "answer.py", mine)
    folder = tmp_path / "cases"
    told = written(folder, "rms_norm", files=(mine,))
    answered(folder)
    file = folder / "calls" / f"{told['calls'][0]['id']}.out.safetensors"
    if fault == "candidate":
        mine.write_text("# another")
    elif fault == "torn":
        file.write_bytes(file.read_bytes()[:20])
    elif fault == "lacking":
        save_file({"z": torch.zeros(2)}, file)
    else:
        (folder / "manifest.json").write_text("[]")
    run = command("judge", str(folder), "--out", str(tmp_path / "out"))
    assert run.returncode == code, run.stderr
    assert said in run.stdout + run.stderr


def command(*words, **more):
    words = [sys.executable, "-m", "lingspec.conformance", *words]
    return subprocess.run(words, capture_output=True, text=True, check=False, **more)


def test_cases_are_never_written_over_others(tmp_path):
    written(tmp_path, "moe_route")
    run = command("cases", "--out", str(tmp_path), "--op", "moe_route")
    assert run.returncode == 2
    assert "holds cases" in run.stderr


def test_all_ops_can_be_asked_elsewhere(tmp_path):
    told = written(tmp_path, "lightning_attention", "lightning_decode", "moe_block")
    assert {c["op"] for c in told["calls"]} == {
        "lightning_attention", "lightning_decode", "moe_block",
    }  # fmt: skip
    decode = next(c for c in told["calls"] if c["op"] == "lightning_decode")
    assert decode["answer"] == ["o", "state_pool"]
    assert all(contract(c["op"]).parse(c["case"]) for c in told["calls"])


def test_a_compiled_extension_is_certified_and_its_bytes_are_in_the_certificate(tmp_path):
    for file in CPP.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(build, cwd=tmp_path, check=True)
    here = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    run = command("certify", "cpp_norm:rms_norm", cwd=tmp_path, env=here)
    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads((tmp_path / "lingspec-out" / "certificate.json").read_text())
    names = {s["name"].partition(":")[0] for s in told["subject"]}
    assert names == {"cpp_norm", "rms_norm_cpp"}
    (built,) = tmp_path.glob("*.so")
    with built.open("ab") as file:
        file.write(b"\0")
    run = command("verify", "lingspec-out/certificate.json", cwd=tmp_path, env=here)
    assert run.returncode == 1
    assert "is not the file that was tested" in run.stderr
