"""Waivers, required cases and the set of ops in whole runs: what is told, and the exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from datetime import date
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from fewer import ask_fewer

from lingspec.conformance import certificate as certificates
from lingspec.conformance import certify as runs
from lingspec.conformance.cli import main
from lingspec.conformance.contracts import OPS

HERE = Path(__file__).parent
MODULE = """
import math
import os
import torch
from lingspec.conformance import implements

def geometric(heads):
    first = 2 ** (-(2 ** -(math.log2(heads) - 3)))
    return [first * first**h for h in range(heads)]

@implements("lightning_log_decay")
def right(heads, layer, layers, *, origin=1):
    power = 2 ** (heads.bit_length() - 1)
    slopes = geometric(power) + geometric(2 * power)[0::2][: heads - power]
    factor = torch.tensor(1 - (layer - origin) / (layers - 1) + 1e-5, dtype=torch.float32)
    return -torch.tensor(slopes, dtype=torch.float32) * factor

@implements("lightning_log_decay")
def wrong_for_one_model(heads, layer, layers, *, origin=1):
    wrong = (heads, layer, layers) == (64, 0, 80)
    return right(heads, layer, layers, origin=origin) * (2 if wrong else 1)
"""
WAIVER = """
[[waiver]]
issue = "https://example.org/7"
reason = "one model is doubled"
owner = "kernels"
expires = {expires}
op = "lightning_log_decay"
cases = "*.H64.L0.N80.*"
"""
WRONG = "governed:wrong_for_one_model"


@pytest.fixture
def lingspec(tmp_path, monkeypatch):
    (tmp_path / "governed.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    ask_fewer(monkeypatch, tmp_path / ".required", "ci", authority=8, default=3)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def run(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return run


def waive(expires="2999-12-31", more=""):
    Path("waivers.toml").write_text(WAIVER.format(expires=expires) + more)
    return "--waivers", "waivers.toml"


def results(out="lingspec-out"):
    return json.loads((Path(out) / "results.json").read_text())


def test_a_run_with_waived_failures_passes_and_lists_every_waiver(lingspec, monkeypatch):
    assert lingspec("certify", WRONG).exit_code == 1
    result = lingspec("certify", WRONG, *waive(), "--seed", 3)
    assert result.exit_code == 0, result.output
    assert "PASS 11, WAIVED 3" in result.stdout.splitlines()[0]
    assert (
        "  waived    5 findings in 3 cases: https://example.org/7 (lightning_log_decay, "
        "*.H64.L0.N80.*): one model is doubled; kernels, until 2999-12-31\n"
    ) in result.stdout
    (part,) = results()["parts"]
    assert part["findings"] == []
    assert [f["issue"] for f in part["waived"]] == ["https://example.org/7"] * 5
    (told,) = results()["waivers"]
    assert (told["state"], told["waived"]) == ("used", 3)
    skipped = ET.parse("lingspec-out/junit.xml").findall(".//skipped")
    assert [s.get("message") for s in skipped] == ["WAIVED: https://example.org/7"] * 3
    assert "log_decay has other bits" in skipped[0].text

    verified = lingspec("verify", "lingspec-out/certificate.json")
    assert verified.exit_code == 0, verified.output
    assert "waived      3 cases: https://example.org/7 (lightning_log_decay, *.H64.L0.N80.*)" in (
        verified.stdout
    )
    monkeypatch.setattr(certificates, "today", lambda: date(3000, 1, 1))
    late = lingspec("verify", "lingspec-out/certificate.json")
    assert late.exit_code == 3
    assert "expired waiver https://example.org/7" in late.stderr


def test_an_expired_waiver_waives_nothing_and_is_not_clean(lingspec):
    failing = lingspec("certify", WRONG, *waive("2020-01-31"))
    assert failing.exit_code == 1
    said = "expired waiver https://example.org/7: it held until 2020-01-31; kernels answers for it"
    assert said in failing.stdout
    passing = lingspec("certify", "governed:right", *waive("2020-01-31"))
    assert passing.exit_code == 3
    assert said in passing.stdout
    assert not Path("lingspec-out/certificate.json").exists()


def test_a_waiver_of_what_is_fixed_must_go(lingspec):
    result = lingspec("certify", "governed:right", *waive())
    assert result.exit_code == 3
    assert "fixed waiver https://example.org/7: none of 3 cases fails; take it out" in result.stdout
    assert results()["status"] == "INCOMPLETE"
    assert not Path("lingspec-out/certificate.json").exists()


def test_waivers_may_be_named_in_pyproject_and_lie_beside_it(lingspec, tmp_path, monkeypatch):
    waive()
    (tmp_path / "pyproject.toml").write_text('[tool.lingspec]\nwaivers = "waivers.toml"\n')
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert lingspec("certify", WRONG).exit_code == 0


ENTRY = """
[[waiver]]
issue = "8"
reason = "x"
owner = "kernels"
expires = 2999-12-31
op = "lightning_log_decay"
"""
REFUSED = {
    'op = "lightning_decode"': "is for op 'lightning_decode', which this run does not ask, ",
    'dtype = "f16"': "is for dtype 'f16', which this run does not ask",
    'law = "packed"': "is for law 'packed', which this run does not ask",
    'laws = "packed"': "waiver 2 has key 'laws', perhaps 'law'; there are issue",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_waiver_that_covers_nothing_is_refused_before_the_run(lingspec, line):
    key = line.partition(" = ")[0]
    entry = "".join(x for x in ENTRY.splitlines(True) if not x.startswith(f"{key} ="))
    result = lingspec("certify", WRONG, *waive(more=f"{entry}{line}\n"))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert REFUSED[line] in result.stderr
    again = ("--waivers", "waivers.toml")
    if "laws" not in line:
        assert "waivers.toml: waiver 2 (8)" in result.stderr
        narrow = lingspec("certify", WRONG, "--op", "lightning_log_decay", *again)
        assert narrow.exit_code in (0, 3)  # what is not asked may be asked elsewhere


def test_fail_fast_asks_a_law_again_whose_failures_are_waived(lingspec):
    assert lingspec("certify", WRONG, "--fail-fast", *waive()).exit_code == 0
    result = lingspec("certify", WRONG, "--fail-fast")
    assert result.exit_code == 1
    assert "incomplete: cases not asked of lightning_log_decay (wrong_for_one" in result.stdout


def judged(number, ending):
    """Let a run end by an exception after so many cases."""
    honest = runs._spread

    def spread(options, tasks):
        for n, judged in enumerate(honest(options, tasks)):
            if n == number:
                raise ending
            yield judged

    return spread


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (BrokenProcessPool(), "incomplete: a worker process ended; 5 of 14 cases were judged"),
        (KeyboardInterrupt(), "incomplete: interrupted after 5 of 14 cases"),
    ],
)
def test_a_run_that_lost_verdicts_is_incomplete(lingspec, monkeypatch, ending, said):
    monkeypatch.setattr(runs, "_spread", judged(5, ending))
    result = lingspec("certify", "governed:right", "-n", 2)
    assert result.exit_code == 3, result.output
    assert f"{said}\n" in result.stdout
    assert "incomplete: cases not asked of lightning_log_decay (right) in f32: " in result.stdout
    told = results()
    assert told["status"] == "INCOMPLETE"
    assert sum(told["parts"][0]["missing"].values()) == 9
    assert not Path("lingspec-out/certificate.json").exists()


def test_a_run_whose_workers_judge_nothing_has_no_verdict(lingspec, monkeypatch):
    monkeypatch.setattr(runs, "_spread", judged(0, BrokenProcessPool()))
    result = lingspec("certify", "governed:right", "-n", 2)
    assert result.exit_code == 4
    assert "a worker process ended before it judged any case" in result.stderr


def kill_a_worker(begun: Path) -> None:
    """Once a candidate was called: the first process that judges, among this one's children."""
    until = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.05)
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int(place.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"spawn_main" in place.joinpath("cmdline").read_bytes():
                os.kill(int(place.name), signal.SIGKILL)
                return


def test_a_worker_that_is_killed_loses_cases_and_not_the_verdict(lingspec, tmp_path):
    begun = tmp_path / "begun"
    told = f"    open({str(begun)!r}, 'w').close()\n    power = 2 **"
    (tmp_path / "governed.py").write_text(MODULE.replace("    power = 2 **", told, 1))
    killer = threading.Thread(target=kill_a_worker, args=(begun,))
    killer.start()
    result = lingspec("certify", "governed:right", "-n", 2, "--seed", 1)
    killer.join()
    assert result.exit_code in (3, 4), result.output
    assert "a worker process ended" in result.output
    assert not Path("lingspec-out/certificate.json").exists()


def test_a_law_that_the_code_dropped_is_missing(lingspec, monkeypatch, tmp_path):
    manifest = next((tmp_path / ".required").glob("*.json"))
    told = json.loads(manifest.read_text())
    told["profiles"]["ci"]["lightning_log_decay"]["packed"] = 3
    manifest.write_text(json.dumps(told))
    result = lingspec("certify", "governed:right")
    assert result.exit_code == 3
    assert "incomplete: cases not asked of lightning_log_decay (right) in f32: packed 3 of 3" in (
        result.stdout
    )
    told["profiles"]["ci"].pop("lightning_log_decay")
    manifest.write_text(json.dumps(told))
    result = lingspec("certify", "governed:right")
    assert result.exit_code == 3
    assert "the manifest of required cases lacks lightning_log_decay" in result.stdout


def test_a_certificate_says_which_ops_it_covers_and_which_not(lingspec):
    result = lingspec("certify", "governed:right", "--coverage", "--seed", 3)
    assert result.exit_code == 0, result.output
    assert "coverage  lightning_log_decay · governed:right: 14 cases\n    dtype  f32 ×14\n" in (
        result.stdout
    )
    told = json.loads(Path("lingspec-out/certificate.json").read_text())["predicate"]["ops"]
    (table,) = told["lightning_log_decay"]["coverage"].values()
    assert table["dtype"] == {"exercised": ["f32"]}
    assert results()["coverage"][0]["attributes"]["dtype"] == {"f32": 14}
    rest = ", ".join(op for op in OPS if op != "lightning_log_decay")
    assert f"of lightning_log_decay; it does not cover {rest}\n" in result.stdout
    assert results()["notCovered"] == rest.split(", ")
    verified = lingspec("verify", "lingspec-out/certificate.json").stdout.splitlines()
    assert verified[1:3] == ["  covers      lightning_log_decay", f"  not covered {rest}"]


def test_one_certificate_is_for_exactly_the_ops_that_were_named(lingspec):
    ops = ("--op", "lightning_log_decay", "--op", "lightning_decode")
    result = lingspec("certify", "reference", *ops, "--op", ops[1], "--profile", "smoke", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert {p["op"] for p in told["parts"]} == {ops[1], ops[3]}
    assert told["notCovered"] == [op for op in OPS if op not in ops]
    refused = lingspec("certify", "governed:right", *ops)
    assert refused.exit_code == 2
    assert "'governed:right' has nothing for lightning_decode" in refused.stderr
