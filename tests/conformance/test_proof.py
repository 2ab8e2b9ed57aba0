"""Power that few cases of authority prove is proved by those of other laws."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.contracts import contract
from lingspec.conformance.findings import Verdict
from lingspec.conformance.plan import plan
from lingspec.conformance.proof import complete
from lingspec.conformance.report import PartReport
from lingspec.conformance.run import laws_for

OP = "merge_attention"


def report(status="PASS"):
    """One authority case that proved that zeros are rejected, and others that were not asked."""
    of = contract(OP)
    cases = plan(of, laws_for(of), "f32", "native", "ci", 0)
    verdicts = [Verdict(str(c), c.law, status) for c in cases if c.law != "authority"]
    first = next(c for c in cases if c.law == "authority")
    asked = ("zeros", "gain 1.01", "heads rolled")
    verdicts.append(Verdict(str(first), "authority", "PASS", killed=asked[:1], applicable=asked))
    part = SimpleNamespace(
        candidate=SimpleNamespace(op=OP, name="x"), profile=profile("fp32"), dtype="f32"
    )
    return PartReport(part, verdicts)


def test_cases_of_other_laws_prove_what_few_of_authority_did_not():
    made = report()
    assert made.status("ci") == "VOID"
    assert made.unproven("ci")
    complete(made, "ci")
    assert made.power() == {"zeros": 3, "gain 1.01": 3, "heads rolled": 3}
    assert made.status("ci") == "PASS"
    assert sum(bool(v.applicable) for v in made.verdicts) <= 10  # and no more are asked


@pytest.mark.parametrize("status", ["VOID", "NOT SUPPORTED", "FAIL"])
def test_a_case_that_did_not_pass_proves_nothing(status):
    made = report(status)
    complete(made, "ci")
    assert made.power()["zeros"] == 1
    assert made.status("ci") != "PASS"
