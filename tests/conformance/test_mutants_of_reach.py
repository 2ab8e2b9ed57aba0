"""What is right wherever small tests look is rejected by the law that it names."""

from __future__ import annotations

import pytest

from lingspec.conformance.registry import mutants
from lingspec.conformance.selftest import run_self_test

REACH = {n: e for n, e in mutants().items() if e.module.endswith("_reach")}


@pytest.mark.parametrize("op", sorted({e.declaration.op for e in REACH.values()}))
def test_mutants_of_reach_are_rejected_by_the_laws_that_they_name(op):
    targets = [("mutants", n) for n, e in REACH.items() if e.declaration.op == op]
    rows = run_self_test(op, targets, "ci", 0)
    assert [row.name for row in rows if not row.ok] == []
    assert len(rows) == len(targets) > 0
