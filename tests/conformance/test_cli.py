"""Every wrong command is one line that names the thing; every code is the one of the manual."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fewer import ask_fewer

from lingspec.conformance import doctor as doctors
from lingspec.conformance import plan as plans
from lingspec.conformance.cli import main
from lingspec.conformance.runner.targets import ADAPTERS

HERE = Path(__file__).parent
CASE = "lightning_attention:authority.f32.B1.T5.H2.K8.V8.slopes.normal.dense.1"
MODULE = """
from candidates import *
from lingspec.conformance import implements

@implements("lightning_attention")
def lacks_an_argument(q, k, v, log_decay, *, scale, initial_state=None):
    raise AssertionError

@implements("lightning_attention")
def needs_one_more(q, k, v, log_decay, chunk, *, scale, initial_state=None, cu_seqlens=None):
    raise AssertionError

@implements("lightning_attention", packages=("nobody_has_this",))
def names_a_package(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    raise AssertionError

@implements("lightning_attention", profile={})
def declares_no_dtype(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    raise AssertionError

@implements("lightning_attention", supports=lambda case: 7)
def answers_with_a_number(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    raise AssertionError

@implements("lightning_attention", supports=lambda case: "not today")
def refuses_everything(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    raise AssertionError

@implements("lightning_attention", supports=lambda case: time.sleep(100))
def never_says(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    raise AssertionError

@implements("lightning_attention", profile="fp31")
def declares_nonsense(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    raise AssertionError

@implements("lightning_log_decay")
def zeros(heads, layer, layers, *, origin=1):
    return torch.zeros(heads)

number = 3
"""


@pytest.fixture
def lingspec(tmp_path, monkeypatch):
    (tmp_path / "some_kernels.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    ask_fewer(monkeypatch, tmp_path / ".required", "ci", "smoke", authority=2)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def run(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return run


TARGETS = {
    ("no_such_module:f",): (2, "target 'no_such_module' cannot be imported: No module named"),
    ("no_such_target",): (2, "no target 'no_such_target'; there are kernels, reference, "),
    ("some_kernels:nobody",): (2, "has no attribute 'nobody'"),
    ("some_kernels:number", "--op", "lightning_attention"): (2, "'number' is int, but must be"),
    ("some_kernels:right",): (2, "is marked with @implements; name its op with --op"),
    ("some_kernels:lacks_an_argument",): (2, "lacks argument cu_seqlens, which lightning_att"),
    ("some_kernels:needs_one_more",): (2, "missing a required argument: 'chunk'"),
    ("some_kernels:names_a_package",): (2, "names 'nobody_has_this', which is not installed"),
    ("some_kernels:declares_no_dtype",): (2, "declares a profile for no dtype"),
    ("some_kernels:answers_with_a_number",): (2, "supports() returned 7, but must return True or"),
    ("some_kernels.py:right",): (2, "not a file: some_kernels:right"),
    ("./some_kernels:right",): (2, "is not module:attribute"),
    ("some_kernels:declares_nonsense",): (2, "no precision profile 'fp31'; there are fp64, "),
    ("some_kernels:cannot_say",): (2, "supports() of 'some_kernels:cannot_say' failed: Attri"),
    ("mutants:nobody",): (2, "no target 'mutants:nobody'; `lingspec self-test --list` names all"),
}
OPTIONS = {
    ("certify", "kernels", "--op", "lightning_atention"): "did you mean 'lightning_attention'?",
    ("certify", "kernels", "--shard", "0/2"): "'0/2' must be i/n with 1 <= i <= n",
    ("certify", "kernels", "--shard", "²/³"): "must be i/n with 1 <= i <= n",
    ("certify", "kernels", "--timeout", "nan"): "nan is not a number of seconds",
    ("certify", "kernels", "--precision", "float32=tf32,x"): "must be NAME or DTYPE=NAME",
    ("explain", "lightning_attention", "--compare", "rtol=nan,atol=1"): "must be rtol=NUMBER",
    ("certify", "kernels", "--precision", "fp31"): "no precision profile 'fp31'; there are",
    ("certify", "kernels", "--precision", "int8=fp32"): "dtype 'int8'; there are",
    ("certify", "kernels", "--precision", "fp32+x=bf16"): "no modifier +x=bf16; there are",
    ("certify", "kernels", "--profile", "fast"): "'fast' is not one of 'smoke', 'ci', 'full'",
    ("certify", "--shard", "3/2"): "'3/2' must be i/n with 1 <= i <= n",
    ("certify", "--shard", "0/1"): "'0/1' must be i/n with 1 <= i <= n",
    ("certify", "--shard", "x/y"): "'x/y' must be i/n with 1 <= i <= n",
    ("certify", "--seed", "-1"): "-1 is not in the range x>=0",
    ("self-test", "--only", "no_such_mutant"): "is called no_such_mutant",
    ("self-test", "--op", "nothing"): "no op 'nothing'",
    ("self-test", "--without", "nothing"): "names a law 'nothing'",
    ("ops", "lightning_decoed"): "no op 'lightning_decoed'; did you mean 'lightning_decode'?",
    ("explain", "nothing"): "no op 'nothing'",
    ("explain", "lightning_attention", "--compare", "1e-2"): "must be rtol=NUMBER,atol=NUMBER",
    ("explain", "lightning_attention", "--precision", "x"): "no precision profile 'x'",
    ("explain", "lightning_decode", "--case", CASE): "is of lightning_attention, but must be of",
    ("replay", CASE.replace("dense", "sideways")): "word 'sideways', which lightning_attention",
    ("replay", CASE.replace(".K8", "")): "lacks axis K",
    ("replay", "nothing:f32.1"): "no op 'nothing'",
    ("replay", "n" * 400): "no op 'nnn",
    ("replay", "none.safetensors"): "no bundle none.safetensors",
    ("minimize", "none.safetensors"): "no bundle none.safetensors",
    ("replay", "lightning_log_decay:f32.H6.L9.N8.O1.0"): "must have N of 2 or more, L below N",
}
TABLES = {
    'colour = "red"': "has key 'colour', but knows only target, profile",
    'profile = "fast"': "profile is 'fast', but must be smoke, ci or full",
    "workers = 0": "workers is 0, but must be an integer >= 1",
    'workers = "2"': "workers is '2', but must be int",
    "seed = true": "seed is True, but must be int",
    "timeout = 0.1": "timeout is 0.1, but must be a number of seconds >= 1",
    'device = "tpu"': "device is 'tpu', but must be cpu or cuda",
    "seed = ": "pyproject.toml: Invalid value",
}


def one_line(result, code, said):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert said in lines[-1]
    usage = [line for line in lines[:-1] if line.strip()]
    assert all(line.startswith(("Usage:", "Try ")) for line in usage), lines


@pytest.mark.parametrize("arguments", TARGETS)
def test_a_target_that_cannot_be_had_is_one_line_and_leaves_nothing(lingspec, tmp_path, arguments):
    code, said = TARGETS[arguments]
    one_line(lingspec("certify", *arguments, "--profile", "smoke"), code, said)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] not in "._") == [
        "some_kernels.py"
    ]


@pytest.mark.parametrize("arguments", OPTIONS, ids=" ".join)
def test_a_wrong_argument_is_one_line(lingspec, arguments):
    one_line(lingspec(*arguments), 2, OPTIONS[arguments])


@pytest.mark.parametrize("table", TABLES)
def test_a_wrong_default_is_one_line(lingspec, tmp_path, table):
    (tmp_path / "pyproject.toml").write_text(f"[tool.lingspec]\n{table}\n")
    one_line(lingspec("certify", "kernels"), 2, TABLES[table])


def test_an_adapter_whose_package_is_missing_cannot_run_here(lingspec):
    missing = [n for n, remedy in ADAPTERS.items() if remedy and not installed(n)]
    for name in missing:
        one_line(lingspec("certify", name, "--profile", "smoke"), 4, ADAPTERS[name])
    if not missing:
        pytest.skip("every adapter's package is installed")


def installed(name):
    package = {"mlx": "mlx_lm", "liger": "liger_kernel"}.get(name, name)
    return importlib.util.find_spec(package) is not None


FINDINGS = {
    "returns_heads_first": "o has shape",
    "returns_doubles": "o has dtype float64",
    "returns_on_no_device": "o is on device meta",
    "returns_nan": "o is not finite",
    "segfaults": "the process was killed by SIGSEGV",
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_wrong_result_is_a_finding_and_exits_1(lingspec, name):
    result = lingspec("replay", CASE, "--target", f"some_kernels:{name}")
    assert result.exit_code == 1
    assert FINDINGS[name] in result.stdout
    assert result.stderr == ""


def test_a_candidate_that_refuses_everything_is_inconclusive(lingspec):
    result = lingspec("certify", "some_kernels:refuses_everything", "--profile", "smoke")
    assert result.exit_code == 3
    assert "NOT SUPPORTED" in result.stdout
    assert not Path("lingspec-out/certificate.json").exists()
    assert lingspec("replay", CASE, "--target", "some_kernels:refuses_everything").exit_code == 3


def test_supports_that_hangs_is_not_waited_for_longer_than_a_call(lingspec):
    result = lingspec("replay", CASE, "--target", "some_kernels:never_says", "--timeout", "1")
    one_line(result, 2, "supports() of 'some_kernels:never_says' failed: no result within 1 s")


def test_fail_fast_asks_no_law_again_that_was_broken_and_says_so(lingspec, monkeypatch):
    monkeypatch.setitem(plans.COUNTS, "smoke", {"authority": 30, "default": 1})
    asked = ("certify", "some_kernels:zeros", "--profile", "smoke")
    result = lingspec(*asked, "--fail-fast")
    assert result.exit_code == 1, result.output
    assert "    authority    FAIL 1, not asked 29\n" in result.stdout
    assert "FAIL 3 of 3" in result.stdout  # each law once
    assert "not asked" not in lingspec(*asked).stdout


def test_fail_fast_with_several_processes_leaves_cases_out(lingspec, monkeypatch):
    monkeypatch.setitem(plans.COUNTS, "smoke", {"authority": 30, "default": 1})
    result = lingspec(
        "certify", "some_kernels:zeros", "--profile", "smoke", "--fail-fast", "-n", 2, "--json"
    )
    (part,) = json.loads(result.stdout)["parts"]
    begun, left = part["laws"]["authority"]["FAIL"], part["notAsked"]["authority"]
    assert begun + left == 30
    assert left > 0


def test_one_law_alone_is_asked_and_certifies_nothing(lingspec):
    asked = ("certify", "kernels", "--profile", "ci", "--law", "determinism")
    result = lingspec(*asked, "--op", "lightning_log_decay")
    assert result.exit_code == 3, result.output
    assert "    determinism  PASS 1" in result.stdout
    assert (
        "incomplete: cases not asked of lightning_log_decay in f32: authority 2 of 2, "
        "untouched 1 of 1\n"
    ) in result.stdout
    result = lingspec(*asked[:2], "--profile", "smoke", *asked[4:], "--op", "lightning_log_decay")
    assert result.exit_code == 0  # a profile that certifies nothing requires nothing
    assert "law determinism alone is not sufficient for certification" in result.stdout
    assert not Path("lingspec-out/certificate.json").exists()
    assert lingspec(*asked[:2], "--law", "no_law").exit_code == 2


def test_one_law_alone_says_nothing_of_power(lingspec):
    result = lingspec("certify", "some_kernels:honest", "--law", "determinism", "--fail-fast")
    assert result.exit_code == 3, result.output
    assert "not asked of lightning_attention (honest) in f64, f32, bf16: " in result.stdout
    assert "told apart" not in result.stdout
    assert "unproven" not in result.stdout


def test_nothing_is_said_to_look_like_a_mistake_where_the_results_are_right(lingspec):
    result = lingspec("certify", "some_kernels:keeps_its_buffers", "--law", "untouched")
    assert result.exit_code == 1, result.output
    assert "the call changed o of the call before it" in result.stdout
    assert "looks like" not in result.stdout


def test_a_law_that_no_op_declares_is_refused(lingspec):
    result = lingspec("certify", "some_kernels:zeros", "--law", "causality")
    one_line(result, 2, "'some_kernels:zeros' has no op that declares law causality")


def test_a_wrong_candidate_leaves_a_bundle_that_shows_it_again_in_a_new_process(lingspec):
    certified = lingspec("certify", "some_kernels:zeros", "--profile", "smoke", "--json")
    assert certified.exit_code == 1
    assert json.loads(certified.stdout)["certificate"] is None
    (bundle,) = Path("lingspec-out/bundles").glob("*.safetensors")
    assert not list(Path("lingspec-out").rglob("*.part"))
    again = subprocess.run(
        [sys.executable, "-m", "lingspec.conformance", "replay", str(bundle), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 1, again.stderr
    (verdict,) = json.loads(again.stdout)
    assert verdict["findings"][0]["text"] == "log_decay has other bits"
    smaller = lingspec("minimize", bundle, "--json")
    assert smaller.exit_code == 1
    assert Path(json.loads(smaller.stdout)["bundle"]).is_file()


def test_a_printed_replay_repeats_what_was_asked(lingspec):
    result = lingspec("replay", CASE, "--target", "some_kernels:returns_nan", "--precision", "tf32")
    (line,) = [x for x in result.stdout.splitlines() if x.startswith("  replay ")]
    assert line.endswith("--target some_kernels:returns_nan --precision tf32")
    assert lingspec(*line.split()[2:]).stdout == result.stdout


def test_what_breaks_nothing_cannot_be_made_smaller(lingspec):
    result = lingspec("minimize", CASE, "--target", "some_kernels:honest", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"bundle": None, "status": "PASS"}


def test_an_edited_certificate_does_not_conform(lingspec, tmp_path):
    path = tmp_path / "certificate.json"
    path.write_text("{}")
    one_line(lingspec("verify", path), 1, "is not a certificate")
    one_line(lingspec("verify", tmp_path / "none.json"), 1, "no certificate")


QUIET = (
    ("model", "ling-2.6-flash"), ("synth", "--recipes"), ("golden", "list"), ("golden", "check"),
    ("ops",), ("ops", "lightning_attention"), ("doctor",), ("self-test", "--list"),
    ("explain", "lightning_attention", "--case", CASE, "--precision", "fp32"),
    ("replay", CASE, "--target", "some_kernels:returns_nan"),
    ("certify", "kernels", "--op", "lightning_log_decay", "--profile", "smoke"),
)  # fmt: skip


@pytest.mark.parametrize("arguments", QUIET, ids=" ".join)
def test_json_is_all_that_is_printed(lingspec, arguments, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    result = lingspec(*arguments, "--json")
    assert result.exit_code in (0, 1), result.output
    assert json.loads(result.stdout, parse_constant=refuse)


def test_a_fault_of_the_suite_is_not_reported_as_the_candidate_s(lingspec, monkeypatch):
    def broken():
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(doctors, "examine", broken)
    result = lingspec("doctor")
    assert result.exit_code == 4
    assert "no verdict: ZeroDivisionError('ours')" in result.stderr.splitlines()[-1]


def test_several_processes_report_a_refusal_like_one(lingspec):
    result = lingspec("certify", "some_kernels:cannot_say", "--profile", "smoke", "-n", "2")
    one_line(result, 2, "supports() of 'some_kernels:cannot_say' failed")
