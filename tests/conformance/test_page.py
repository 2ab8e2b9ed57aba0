"""The page holds what the results hold, needs nothing else, and trusts no word of a candidate."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner
from fewer import ask_fewer
from test_waivers import failed, part, waiver

from lingspec.conformance.cli import main
from lingspec.conformance.findings import Verdict
from lingspec.conformance.ledger import Ledger
from lingspec.conformance.output import write_all
from lingspec.conformance.report import Options, Report

CASE = "lightning_attention:packed.bf16.H2.K8.V8.n{n}.slopes.normal.dense.1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a run left behind: a pass, a waived failure, and one that is not."""
    ask_fewer(monkeypatch, tmp_path / ".required", "ci")
    mine = waiver(cases="*.n3.*")
    passed = Verdict(CASE.format(n=1), "packed", "PASS")
    broken = failed(case=CASE.format(n=2))
    broken.findings[0] = broken.findings[0].__class__(
        "packed", "<script>alert(1)</script>", broken.case
    )
    verdicts = (passed, broken, failed(case=CASE.format(n=3)))
    made = part(*verdicts, waivers=[mine])
    options = Options("mykernels:mine", waivers=(mine,), seed=3)
    subjects = [{"name": "mykernels:mykernels.py", "digest": {"sha256": "ab" * 32}}]
    write_all(
        Report(options, 3, subjects, [made], Ledger((mine,), made.ledger.day)), tmp_path, None
    )
    return tmp_path


def test_the_page_tells_verdict_findings_waivers_coverage_and_files(folder):
    result = CliRunner().invoke(main, ["report", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"FAIL, in {folder / 'report.html'}\n"
    text = (folder / "report.html").read_text(encoding="utf-8")
    for said in (
        '<h1>mykernels:mine <span class="FAIL">FAIL</span></h1>', "incomplete: cases not asked of",
        'class="WAIVED">WAIVED 1<', f"lingspec replay {CASE.format(n=2)} --target mykernels:mine",
        "a tail is lost", "<th>layout<td> dense ×2,", "ab" * 32,
        '<span class="never">fused never</span>',
    ):  # fmt: skip
        assert said in text, said


def test_the_page_loads_nothing_and_runs_nothing(folder):
    CliRunner().invoke(main, ["report", "page", str(folder), "--out", str(folder / "x.html")])
    text = (folder / "x.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    for word in ("<script", "http", "src=", "href="):
        assert word not in text


def test_a_folder_without_results_or_a_machine_without_jinja_has_no_page(folder, monkeypatch):
    none = CliRunner().invoke(main, ["report", str(folder / "none")])
    assert none.exit_code == 2
    assert "no results" in none.stderr
    monkeypatch.setitem(sys.modules, "jinja2", None)
    without = CliRunner().invoke(main, ["report", str(folder), "--json"])
    assert without.exit_code == 4
    assert "pip install lingspec[report]" in without.stderr


def test_the_page_is_json_for_who_asks(folder):
    result = CliRunner().invoke(main, ["report", str(folder), "--json"])
    assert json.loads(result.stdout) == {"page": str(folder / "report.html"), "status": "FAIL"}


def test_the_matrix_counts_by_op_candidate_dtype_and_law(folder):
    explained = folder / "docs" / "found.md"
    explained.parent.mkdir()
    explained.write_text("# All\n\n## mykernels:mine: a tail is lost\n\n## other: not here\n")
    out = folder / "results.md"
    asked = ["report", "matrix", str(folder), "--out", str(out), "--findings", str(explained)]
    result = CliRunner().invoke(main, [*asked, "--made-by", "make results"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"mykernels:mine FAIL, in {out}\n"
    text = out.read_text(encoding="utf-8")
    told = json.loads((folder / "results.json").read_text())["parts"][0]
    counts = told["laws"]["packed"]
    row = next(line for line in text.splitlines() if line.startswith("| mykernels:mine |"))
    names = next(line for line in text.splitlines() if line.startswith("| package | candidate"))
    cells = dict(zip(names.split(" | "), row.split(" | "), strict=True))
    assert counts == {"PASS": 1, "FAIL": 1, "WAIVED": 1}
    assert cells["packed"] == "**1 of 3**"
    assert "&lt;script>" in text.replace("&gt;", ">")
    assert "<script" not in text
    assert "Made by `make results`" in text
    link = "- [mykernels:mine: a tail is lost](docs/found.md#mykernelsmine-a-tail-is-lost)\n"
    assert text.endswith(f"## Explained\n\n{link}")
