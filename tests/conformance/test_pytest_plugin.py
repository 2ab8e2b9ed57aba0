"""`pytest --lingspec`: ids, selection, skips, failures, xdist, and runs of nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from lingspec.conformance import engine
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.findings import Verdict
from lingspec.conformance.laws import LAWS, law

pytest_plugins = ["pytester"]
INSTALLED = any(p.name == "lingspec" for p in entry_points(group="pytest11"))
PLUGIN = () if INSTALLED else ("-p", "lingspec.conformance.pytest_plugin")
OP = "lightning_log_decay"
LOADED = [contract(op) for op in OPS], [law(name) for name in LAWS]  # likewise
CANDIDATES = """
from lingspec.conformance import implements

@implements("lightning_log_decay")
def zeros(heads, layer, layers, *, origin=1):
    import torch
    return torch.zeros(heads)

@implements("lightning_log_decay", supports=lambda case: "not today")
def refuses(heads, layer, layers, *, origin=1):
    raise AssertionError

@implements("lightning_log_decay", supports=lambda case: case.H != 64 or "64 heads are too many")
def some(heads, layer, layers, *, origin=1):
    import torch
    return torch.zeros(heads)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    pytester.makepyfile(some_candidates=CANDIDATES)
    monkeypatch.syspath_prepend(pytester.path)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=":")
    monkeypatch.setenv("COLUMNS", "200")

    def with_arguments(target, *more, keep=False):
        cache = () if keep else ("-p", "no:cacheprovider")
        return pytester.runpytest_inprocess(
            *PLUGIN, *cache, "-p", "no:randomly", "--lingspec", target, "--lingspec-profile",
            "smoke", "--lingspec-op", OP, *more,
        )  # fmt: skip

    return with_arguments


def test_importing_the_plug_in_does_not_import_torch():
    code = "import sys, lingspec.conformance.pytest_plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_without_lingspec_is_as_it_was(pytester):
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*lingspec:*")


def test_a_right_candidate_passes_beside_other_tests(run, pytester):
    pytester.makepyfile("def test_it(): pass")
    result = run("kernels")
    result.assert_outcomes(passed=13)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*lingspec: kernels: 12 passed; no certificate*"])


def test_ids_are_stable_readable_and_can_be_asked_for(run):
    names = [
        re.findall(r"lingspec::\S+", "\n".join(run("kernels", "--collect-only", "-q").outlines))
        for _ in range(2)
    ]
    assert names[0] == names[1]
    assert names[0][1] == f"lingspec::{OP}[{OP}-f32-fp32-authority-01]"
    result = run("kernels", names[0][1])
    result.assert_outcomes(passed=1)
    assert run("kernels", f"lingspec::{OP}[nothing]").ret == pytest.ExitCode.USAGE_ERROR


def test_a_wrong_candidate_fails_with_the_report_of_the_command_line(run):
    result = run("some_candidates:zeros", "-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "*law       agrees with the authority: log_decay has other bits",
        "*replay    lingspec replay lightning_log_decay:*--target some_candidates:zeros",
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*Traceback*")


def test_k_selects_and_lf_runs_what_failed_again(run):
    run("some_candidates:zeros", "-k", "untouched", keep=True).assert_outcomes(
        failed=2, deselected=10
    )
    run("some_candidates:zeros", "--lf", keep=True).assert_outcomes(failed=2, deselected=10)


def test_what_is_not_supported_is_skipped_with_its_reason(run):
    result = run("some_candidates:refuses", "-rs", "-k", "authority")
    assert set(result.parseoutcomes()) <= {"skipped", "deselected"}
    result.stdout.fnmatch_lines(["*NOT SUPPORTED: not today*"])


@pytest.mark.parametrize("more", [(), ("-k", "no_case_of_this_name")])
def test_a_run_in_which_no_case_ran_fails(run, pytester, more):
    pytester.makepyfile("def test_it(): pass")
    result = run("some_candidates:refuses", *more)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no case of some_candidates:refuses ran: no verdict*"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("some_candidates:nobody",), "has no attribute 'nobody'"),
        (("no_such_module:f",), "cannot be imported"),
        (("kernels", "--lingspec-op", "lightning_atention"), "did you mean 'lightning_attention'"),
        (("kernels", "--lingspec-precision", "fp31"), "no precision profile 'fp31'"),
    ],
)
def test_what_cannot_be_run_is_a_wrong_command(run, arguments, said):
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --lingspec: *{said}*"])


def test_a_case_that_cannot_be_judged_fails_with_the_word_void(run, monkeypatch):
    def void(*_, **__):
        return Verdict("a case", "authority", "VOID", reason="limits are not finite")

    monkeypatch.setattr(engine, "judge_case", void)
    result = run("kernels", "-k", "authority-00")
    result.assert_outcomes(failed=1, deselected=11)
    result.stdout.fnmatch_lines(["*VOID: limits are not finite: a case*"])


def test_processes_of_xdist_collect_and_report_the_same_cases(run):
    pytest.importorskip("xdist")
    result = run("some_candidates:some", "-n", "2", "-p", "xdist")
    assert result.parseoutcomes()["failed"] == 12  # others stand in for what is not supported
    assert result.ret == pytest.ExitCode.TESTS_FAILED
