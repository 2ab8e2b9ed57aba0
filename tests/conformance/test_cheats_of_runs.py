"""What only a whole run can see, what a run survives, and how it says REJECTED."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from judging import HERE, case

from lingspec.conformance import plan as plans
from lingspec.conformance.cli import main
from lingspec.conformance.findings import NEVER_WAIVED
from lingspec.conformance.runner.server import allowance, environment

ATTENTION, DECAY = "lightning_attention", "lightning_log_decay"
TROUBLE = """
import ctypes, time
import torch
from candidates import right
from lingspec.conformance import implements

HELD = []

def takes_all_memory():
    while True:
        HELD.append(torch.ones(1 << 26))

def crashes():
    ctypes.string_at(0)

def hangs():
    time.sleep(1000)

def ends_the_fork_server():
    import os
    ctypes.CDLL(None).kill(os.getppid(), 9)
    time.sleep(0.2)

@implements("lightning_log_decay")
def bad(heads, layer, layers, *, origin=1):
    {trouble}()

@implements("lightning_attention", profile={{"float32": "fp32"}})
def good(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    return right(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                 cu_seqlens=cu_seqlens)
"""
# What the bad half does, what is said of it, and its status.
TROUBLES = {
    "crashes": ("CRASH", "the process was killed by SIGSEGV"),
    "hangs": ("TIMEOUT", "no result within 1 s"),
    "takes_all_memory": ("CRASH", "out of memory: a process may take 1.5 GiB (--memory): "),
    "ends_the_fork_server": ("CRASH", "the call ended the server of processes"),
}


@pytest.fixture
def certify(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    for name in ("ci", "smoke"):
        monkeypatch.setitem(plans.COUNTS, name, {"authority": 5, "default": 1})

    def run(target, *arguments):
        one = () if target == "both:halves" else ("--precision", "float32=fp32")
        return CliRunner().invoke(main, ["certify", target, *one, *map(str, arguments)])

    return run


def texts(result):
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    return report, [f for p in report["parts"] for f in p["findings"]]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_ends_one_candidate_is_a_finding_and_the_other_is_judged(certify, trouble):
    Path("halves.py").write_text(TROUBLE.format(trouble=trouble))
    Path("both.py").write_text("import halves")
    status, said = TROUBLES[trouble]
    result = certify("both:halves", "--profile", "smoke", "--timeout", 1 if trouble == "hangs"
                     else 60, "--memory", 1.5, "--fail-fast", "--seed", 1, "--json")  # fmt: skip
    report, found = texts(result)
    parts = {p["op"]: p for p in report["parts"]}
    assert (parts[DECAY]["status"], parts[ATTENTION]["status"]) == ("FAIL", "PASS")
    assert {f["status"] for f in found} == {status}
    assert all(said in f["text"] for f in found)


def test_a_module_that_imports_the_reference_does_not_conform(certify):
    Path("borrows.py").write_text("from lingspec.reference import lightning_attention as f")
    result = certify("borrows:f", "--op", ATTENTION)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "lingspec: target 'borrows:f' is REJECTED before it is called: the candidate asked for "
        "lingspec.reference"
    ]


def test_wrong_after_many_calls_and_right_in_a_fresh_process_is_rejected(certify):
    result = certify("cheats:right_for_the_first_calls", "--profile", "smoke", "--json")
    report, found = texts(result)
    assert report["status"] == "REJECTED"
    assert any("right in a fresh process" in f["text"] for f in found if f["law"] == "integrity")


def test_other_bits_late_in_a_run_are_rejected_though_every_limit_holds(certify):
    asked = ("cheats:less_careful_when_it_is_known", "--profile", "smoke", "--law", "authority")
    report, found = texts(certify(*asked, "--json"))
    assert report["status"] == "REJECTED"
    assert {f["law"] for f in found} == {"integrity"}
    assert "depend on how often it was called" in found[0]["text"]


@pytest.mark.parametrize(
    "name", ["right_where_its_callers_judge", "right_where_memory_is_poisoned"]
)
def test_right_only_where_it_is_judged_is_rejected(certify, name):
    result = certify(f"cheats:{name}", "--profile", "ci", "--law", "authority")
    assert result.exit_code == 1, result.output
    assert "REJECTED 1 of 5" in result.stdout
    assert "law       results come from this call's inputs" in result.stdout
    assert "right here, wrong where nothing tells of this suite: o is further" in result.stdout
    assert json.loads(Path("lingspec-out/results.json").read_text())["status"] == "REJECTED"
    suites = ET.parse("lingspec-out/junit.xml").getroot()
    kinds = [f.get("type") for f in suites.iter("failure")]
    assert kinds == ["REJECTED"] * len(kinds)
    assert kinds
    assert not Path("lingspec-out/certificate.json").exists()


def test_a_right_candidate_is_right_in_a_script_as_well(certify):
    result = certify("candidates:honest", "--profile", "ci", "--law", "authority")
    assert result.exit_code in (0, 3), result.output  # few cases prove little
    assert "authority    PASS 5" in result.stdout


def test_what_a_candidate_writes_where_reports_are_is_not_the_report(certify):
    result = certify("cheats:writes_the_report_itself", "--profile", "smoke", "--json")
    report, _ = texts(result)
    assert json.loads(Path("lingspec-out/results.json").read_text())["status"] == "FAIL"
    assert (report["status"], report["certificate"]) == ("FAIL", None)
    assert not Path("lingspec-out/certificate.json").exists()


def test_a_kernel_that_is_not_launched_is_said_to_run_on_the_cpu(certify):
    result = certify("cheats:imports_triton_and_launches_nothing", "--profile", "smoke",
                     "--law", "authority", "--json")  # fmt: skip
    assert {p["device"] for p in json.loads(result.stdout)["parts"]} == {"cpu"}


def test_nothing_that_is_rejected_may_be_waived():
    assert "REJECTED" in NEVER_WAIVED


def test_no_variable_tells_a_candidate_who_runs_it(monkeypatch):
    for name in ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "TOX_ENV_NAME", "LINGSPEC_X"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CC", "gcc")
    told = environment()
    assert not any(x.startswith(("CI", "GITHUB", "PYTEST", "TOX", "LINGSPEC")) for x in told)
    assert told["CC"] == "gcc"


def test_supports_is_not_told_how_values_are_drawn_nor_which_law_asks():
    plain, other = case(), case("determinism", layout="padded")
    assert plain.described() == other.described()
    assert not {"values", "layout", "law"} & plain.described().keys()


def test_candidates_share_the_memory_that_is_free():
    assert allowance(2.0, 7) == 2 << 30
    assert 0 < allowance(None, 4) <= allowance(None, 1)
