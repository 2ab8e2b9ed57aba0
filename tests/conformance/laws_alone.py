"""Of every law, a wrong implementation that only it rejects: slow, so it is run when it is named.

pytest tests/conformance/laws_alone.py
"""

from __future__ import annotations

import pytest
from test_mutants_page import ALONE

from lingspec.conformance.selftest import run_self_test


@pytest.mark.parametrize(("law", "op", "name"), ALONE)
def test_without_the_law_the_mutant_lives(law, op, name):
    (row,) = run_self_test(op, [("mutants", name)], "ci", 0, without=law)
    assert row.cases > 0
    assert row.broken == {}
