"""Cases in the place of those that a candidate does not support."""

from __future__ import annotations

import itertools
import json

import pytest
from click.testing import CliRunner
from judging import HERE, hosted, server_here

from lingspec.conformance import engine
from lingspec.conformance.cli import main
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.engine import judge_supported
from lingspec.conformance.findings import Verdict
from lingspec.conformance.plan import plan
from lingspec.conformance.run import laws_for, parts
from lingspec.conformance.standins import stand_ins


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("cost", ["light", "interpreted"])
def test_stand_ins_are_cases_of_the_same_law_that_make_calls(op, cost):
    of = contract(op)
    for law in laws_for(of):
        (case, *_) = plan(of, (law,), "f32", cost, "smoke", 3)
        found = list(itertools.islice(stand_ins(of, case, cost), 0, None, 7))
        assert found
        assert found == list(itertools.islice(stand_ins(of, case, cost), 0, None, 7))
        for other in found:
            assert (other.law, other.dtype) == (law, case.dtype)
            assert of.parse(str(other)) == other
            assert of.make(other).op == op


@pytest.mark.parametrize(
    ("op", "asked"),
    [
        ("rms_norm", {"D": 8192}), ("rms_norm", {"D": 128}),
        ("lightning_decode", {"K": 128, "V": 128}),
        ("lightning_attention", {"K": 128, "V": 128}), ("mla_attention", {"K": 192, "V": 128}),
        ("mla_decode", {"L": 512, "R": 64, "G": 64}), ("moe_experts", {"D": 128, "I": 128}),
        ("moe_route", {"E": 256, "G": 8, "S": 4, "C": 8}),
    ],
)  # fmt: skip
def test_sizes_that_kernels_are_made_for_come_up_for_every_case(op, asked):
    of = contract(op)
    for case in plan(of, laws_for(of), "f32", "light", "smoke", 1):
        assert any(
            all(other.axes[a] == n for a, n in asked.items())
            for other in stand_ins(of, case, "light")
        ), str(case)


@pytest.fixture(scope="module")
def server():
    with server_here() as made:
        yield made


def _judged(server, target):
    of = contract("rms_norm")
    with hosted(server, target) as host:
        part = parts(host.candidates[0], of)[0]
        cases = plan(of, ("authority", "homogeneity"), part.dtype, "light", "smoke", 0)
        return [judge_supported(host, part.candidate, of, part.profile, c) for c in cases], cases


@pytest.mark.parametrize(("name", "said"), [("tiles", "D % 256"), ("model", "D must be 8192")])
def test_a_kernel_of_few_sizes_is_judged_in_those(server, name, said):
    found, cases = _judged(server, f"restricted:{name}")
    assert {v.status for v in found} == {"PASS"}
    for verdict, case in zip(found, cases, strict=True):
        assert verdict.instead in ("", str(case))
        assert verdict.case == str(case) or verdict.refusal == said
    assert sum(bool(v.instead) for v in found) > len(found) // 2


def test_a_wrong_kernel_of_few_sizes_fails_in_those(server):
    found, _ = _judged(server, "restricted:wrong")
    assert {v.status for v in found} <= {"FAIL", "PASS"}  # rows of zeros are right
    assert any(v.status == "FAIL" for v in found)


def test_what_supports_nothing_stays_not_supported(server):
    found, cases = _judged(server, "restricted:nothing")
    assert [(v.status, v.case, v.instead) for v in found] == [
        ("NOT SUPPORTED", str(case), "") for case in cases
    ]


@pytest.mark.parametrize(
    ("statuses", "said"),
    [(("VOID", "PASS"), "PASS"), (("VOID",) * 9, "NOT SUPPORTED"), (("VOID", "FAIL"), "FAIL")],
)
def test_a_case_that_shows_nothing_stands_in_for_none(statuses, said, monkeypatch, server):
    answers = iter(("NOT SUPPORTED", *statuses))

    def judged(*args, **_):
        return Verdict(str(args[4]), args[4].law, next(answers))

    monkeypatch.setattr(engine, "judge_case", judged)
    of = contract("rms_norm")
    case = plan(of, ("authority",), "f32", "native", "smoke", 0)[1]
    with hosted(server, "restricted:tiles") as host:
        part = parts(host.candidates[0], of)[0]
        found = judge_supported(host, part.candidate, of, part.profile, case)
    assert found.status == said
    assert bool(found.instead) == (said != "NOT SUPPORTED")


def test_what_was_refused_is_counted_beside_what_stood_in_for_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=":")
    monkeypatch.syspath_prepend(str(HERE))
    run = ["certify", "restricted:model", "--profile", "smoke", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, [*run, "--law", "authority"])
    assert "authority    NOT SUPPORTED 8, PASS 8 (D must be 8192)" in result.output
    told = json.loads((tmp_path / "results.json").read_text())
    verdicts = told["parts"][0]["record"]["verdicts"]
    assert all(v["instead"] != v["case"] and v["refusal"] for v in verdicts)
