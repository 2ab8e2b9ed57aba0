"""The self-test: which cases a mutant and an honest variant get, and when each is right."""

from __future__ import annotations

import dataclasses

import pytest

from lingspec.conformance import selftest
from lingspec.conformance.selftest import Row, run_self_test

# It writes to an argument: every case of the law that it names sees that.
MUTANT, ITS_LAW = "writes_the_sum_to_the_residual", "untouched"
HONEST = "normalises_the_wide_sum"


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    told = run_self_test("add_rms_norm", [("mutants", MUTANT), ("honest", HONEST)], "smoke", 0)
    return {row.kind: row for row in told}


def test_a_mutant_gets_the_cases_of_its_law_first(rows):
    assert rows["mutants"].ok
    assert list(rows["mutants"].broken) == [ITS_LAW]
    assert rows["mutants"].cases <= 2 * 2  # two of the law in each of two dtypes


def test_an_honest_variant_gets_all_cases(rows):
    assert rows["honest"].ok
    assert rows["honest"].cases > 40
    assert rows["honest"].worst > 0


def test_a_mutant_that_breaks_another_law_than_its_own_gets_all_cases_and_is_not_right(monkeypatch):
    class Misnamed(Row):
        def __post_init__(self) -> None:
            self.expected = ("exact",)

    monkeypatch.setattr(selftest, "Row", dataclasses.dataclass(Misnamed))
    (row,) = run_self_test("add_rms_norm", [("mutants", MUTANT)], "smoke", 0)
    assert not row.ok
    assert ITS_LAW in row.broken
    assert row.cases > 40


def test_a_mutant_that_only_crashes_is_not_rejected_for_what_it_computes():
    row = Row("mutants", MUTANT, "add_rms_norm", (ITS_LAW,), broken={ITS_LAW: 1}, cases=1)
    assert not row.ok
    assert dataclasses.replace(row, answered=True).ok
