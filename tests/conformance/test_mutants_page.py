"""docs/mutants.md: names are those of mutants, laws those that they name, nothing is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.laws import LAWS
from lingspec.conformance.registry import mutants

PAGE = (Path(__file__).parents[2] / "docs" / "mutants.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d\d", line)
]  # fmt: skip


def section(title):
    """The lines below a heading of the page."""
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()


EDGES = [
    [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in section("Boundaries of what the specification leaves open") if line[:3] == "| `"
]  # fmt: skip
ALONE = [
    tuple(cell.strip("` ") for cell in line.split("|")[1:-1])
    for line in section("What only one law rejects") if line.endswith("` |")
]  # fmt: skip
BUG = re.compile(r"\b[A-M]\d\d\b")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].partition(" ")[0])
def test_a_row_names_mutants_and_the_laws_that_they_name(row):
    _, told, *law = row
    names = re.findall(r"`(\w+)`", told)
    if told.startswith("none:") or not law or not law[0]:
        assert len(told) > 15, "a reason is more than a word"
        return
    known = mutants()
    laws = set(re.split(r"[,;] ", law[0]))
    assert names
    assert laws <= set(LAWS)
    for name in names:
        assert name in known or name in OPS, name
    declared = [set(known[n].declaration.extra["laws"]) for n in names if n in known]
    assert all(of & laws for of in declared), (declared, laws)
    assert all(any(law in of for of in declared) for law in laws), (declared, laws)


def test_every_bug_that_a_mutant_was_made_after_has_a_row_with_it():
    listed = {}
    for row in ROWS:
        for bug in BUG.findall(row[0]):
            listed[bug] = listed.get(bug, "") + row[1]
    for name, entry in mutants().items():
        for bug in BUG.findall(entry.declaration.extra["source"].split(" ")[0]):
            assert f"`{name}`" in listed.get(bug, ""), (bug, name)


def test_every_law_has_a_mutant_that_only_it_rejects():
    assert {law for law, _, _ in ALONE} == set(LAWS) - {"authority", "packed"}
    for law, op, name in ALONE:
        declaration = mutants()[name].declaration
        assert declaration.op == op
        assert declaration.extra["laws"] == (law,)


def test_published_bugs_of_all_sections_have_rows():
    sections = {bug[0] for row in ROWS for bug in BUG.findall(row[0])}
    assert sections == set("ABCDEFGHIJKLM")


def test_some_mutants_of_every_kind_of_op_are_kernels():
    kernels = [e for e in mutants().values() if e.module.endswith("_triton")]
    assert len(kernels) >= 40
    assert len({e.declaration.op for e in kernels}) >= 12


def test_what_a_contract_is_silent_on_has_rows_and_nothing_else_has():
    silent = [(f"`{op}`", sentence) for op in OPS for sentence in contract(op).silent_on]
    assert [(op, sentence) for op, sentence, _ in EDGES] == silent


@pytest.mark.parametrize("row", EDGES, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_boundary_has_mutants_of_its_op_or_a_reason(row):
    op, _, told = row
    names = re.findall(r"`(\w+)`", told)
    if told.startswith("none: "):
        assert len(told) > 40, "a reason is more than a word"
    else:
        assert told == ", ".join(f"`{name}`" for name in names)
        assert names
    known = mutants()
    assert {known[name].declaration.op for name in names} <= {op.strip("`")}
