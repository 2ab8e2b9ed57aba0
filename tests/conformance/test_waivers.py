"""A waiver covers what it names until its day, and does not outlive what it was for."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest

from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.config import ConfigError
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.ledger import Ledger, refuse_unmatched, uses
from lingspec.conformance.report import PartReport
from lingspec.conformance.run import Part
from lingspec.conformance.runner.host import CandidateInfo
from lingspec.conformance.waivers import Waiver, read

DAY = date(2026, 11, 22)
GOOD = {
    "issue": '"https://example.org/7"', "reason": '"a tail is lost"', "owner": '"kernels"',
    "expires": "2026-12-31", "op": '"lightning_attention"',
}  # fmt: skip
WRONG = {
    'isue = "x"': "waiver 1 has key 'isue', perhaps 'issue'; there are issue, reason, owner",
    'op = "lightning_atention"': "op 'lightning_atention', perhaps 'lightning_attention'; there",
    'law = "casuality"': "has law 'casuality', perhaps 'causality'; there are authority",
    'dtype = "bfloat17"': "has dtype 'bfloat17'",
    'expires = "2026-12-31"': "has expires '2026-12-31', but must have a date, as 2026-12-31",
    "expires = 2026-12-31T10:00:00": "but must have a date",
    'reason = " "': "has reason ' ', but must have a text that says it",
    "cases = 3": "has cases 3, but must have a text",
}


def toml(**changes):
    told = {**GOOD, **changes}
    return "[[waiver]]\n" + "".join(f"{k} = {v}\n" for k, v in told.items() if v)


@pytest.mark.parametrize("line", WRONG)
def test_what_a_waiver_cannot_say_is_refused_by_its_name(tmp_path, line):
    key, _, value = line.partition(" = ")
    file = tmp_path / "waivers.toml"
    file.write_text(toml(**{key: value}))
    with pytest.raises(ConfigError) as refused:
        read(file)
    assert str(refused.value).startswith(f"{file}: waiver 1 ")
    assert WRONG[line] in str(refused.value)


@pytest.mark.parametrize("key", GOOD)
def test_a_waiver_lacks_nothing(tmp_path, key):
    file = tmp_path / "waivers.toml"
    file.write_text(toml() + toml(**{key: ""}))
    with pytest.raises(ConfigError, match=f"waiver 2 has no {key}; a waiver has issue, reason"):
        read(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("waiver = 3", "but must be tables, each"), ("[waivers]", "perhaps 'waiver'"),
        ("waiver", "waivers.toml: "),
    ],
)  # fmt: skip
def test_a_file_that_is_no_list_of_waivers_is_refused(tmp_path, text, said):
    file = tmp_path / "waivers.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read(file)
    with pytest.raises(ConfigError, match="no file of waivers"):
        read(tmp_path / "none.toml")


def test_a_waiver_goes_through_json_unchanged(tmp_path):
    file = tmp_path / "waivers.toml"
    file.write_text(toml(law='"packed"', dtype='"bfloat16"', cases='"*.n3-*"'))
    (waiver,) = read(file)
    assert waiver.dtype == "bf16"
    assert Waiver.of_data(waiver.as_data()) == waiver


def waiver(**changes) -> Waiver:
    told = {
        "issue": "7", "reason": "a tail is lost", "owner": "kernels", "expires": DAY,
        "op": "lightning_attention", "place": "waivers.toml: waiver 1",
    }  # fmt: skip
    return Waiver(**{**told, **changes})


def part(*verdicts, waivers=(), dtype="bf16", shard=False) -> PartReport:
    candidate = CandidateInfo(
        0, "mine", "lightning_attention", None, False, "torch", "native", True, False, None, {}
    )
    asked = Part(candidate, dtype, profile("bf16-tc"))
    return PartReport(asked, list(verdicts), Counter(), Ledger(tuple(waivers), DAY), shard)


def failed(law="packed", *laws, status="FAIL", case="lightning_attention:packed.bf16.0"):
    findings = [Finding(broken, "broken", case, status=status) for broken in laws or (law,)]
    return Verdict(case, law, status, findings, worst=30.0)


PASSED = Verdict("lightning_attention:exact.bf16.0", "exact", "PASS", worst=0.5)
COVERS = {
    "its op": ({}, True),
    "its law": ({"law": "packed"}, True),
    "another law": ({"law": "causality"}, False),
    "its dtype": ({"dtype": "bf16"}, True),
    "another dtype": ({"dtype": "f32"}, False),
    "its candidate": ({"candidate": "mine"}, True),
    "another candidate": ({"candidate": "theirs"}, False),
    "a pattern of its case": ({"cases": "*:packed.*"}, True),
    "another pattern": ({"cases": "packed.*"}, False),
    "another op": ({"op": "lightning_decode"}, False),
    "the day before": ({"expires": date(2026, 11, 21)}, False),
}


@pytest.mark.parametrize("scope", COVERS)
def test_a_failure_is_waived_where_it_is_in_the_scope(scope):
    changes, covers = COVERS[scope]
    report = part(failed(), PASSED, waivers=[waiver(**changes)])
    assert report.laws()["packed"] == {"WAIVED" if covers else "FAIL": 1}
    assert (len(report.waived()), len(report.findings())) == ((1, 0) if covers else (0, 1))
    assert (report.first() is None) == covers
    assert report.worst == (0.5 if covers else 30.0)


@pytest.mark.parametrize("status", ["FAIL", "CRASH", "TIMEOUT", "REJECTED"])
def test_every_failure_may_be_waived_but_an_attempt_to_deceive(status):
    report = part(failed(status=status), waivers=[waiver()])
    assert report.laws()["packed"] == {status if status == "REJECTED" else "WAIVED": 1}


def test_a_case_that_also_breaks_what_is_not_waived_fails_by_that():
    report = part(failed("packed", "packed", "authority"), waivers=[waiver(law="packed")])
    assert report.laws()["packed"] == {"FAIL": 1}
    assert [f.law for f in report.findings()] == ["authority"]
    assert [f.law for f, _ in report.waived()] == ["packed"]
    both = part(
        failed("packed", "packed", "authority"),
        waivers=[waiver(law="packed"), waiver(law="authority")],
    )
    assert both.laws()["packed"] == {"WAIVED": 1}


def test_nothing_passes_by_waivers_alone():
    assert part(failed(), waivers=[waiver()]).status("smoke") == "VOID"


USES = {
    "used": ((failed(), PASSED), {}, ""),
    "fixed": ((PASSED,), {"law": "exact"}, "fixed waiver 7: none of 1 cases fails; take it out"),
    "expired": (
        (failed(),), {"expires": date(2026, 11, 21)}, "expired waiver 7: it held until 2026-11-21",
    ),
    "idle": ((PASSED,), {"law": "packed"}, ""),  # no case of its law was judged
    "elsewhere": ((PASSED,), {"dtype": "f32"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("state", USES)
def test_what_becomes_of_a_waiver(state):
    verdicts, changes, problem = USES[state]
    mine = waiver(**changes)
    (use,) = uses(Ledger((mine,), DAY), [part(*verdicts, waivers=[mine])], whole=True)
    assert use.state == state
    assert use.problem().startswith(problem)
    assert bool(use.problem()) == bool(problem)


def test_a_waiver_is_fixed_only_where_everything_was_asked():
    mine = waiver(law="exact")
    (use,) = uses(Ledger((mine,), DAY), [part(PASSED, waivers=[mine])], whole=False)
    assert use.state == "idle"


UNMATCHED = {
    "op": ({"op": "lightning_decode"}, "is for op 'lightning_decode', which this run does not ask"),
    "candidate": ({"candidate": "mime"}, "candidate 'mime', which this run does not ask, perhaps "),
    "dtype": ({"dtype": "f16"}, "is for dtype 'f16', .*; it asks bf16"),
    "law": ({"op": "lightning_log_decay", "law": "packed"}, "is for op 'lightning_log_decay'"),
}


@pytest.mark.parametrize("key", UNMATCHED)
def test_a_waiver_for_what_is_not_asked_is_refused(key):
    changes, said = UNMATCHED[key]
    refuse_unmatched([waiver()], [part().part])
    with pytest.raises(ConfigError, match=said):
        refuse_unmatched([waiver(**changes)], [part().part])
