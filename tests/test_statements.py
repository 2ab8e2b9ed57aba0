"""Every statement of docs/spec has a test, and every test that cites one cites one that exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "docs" / "spec"
STATEMENT = re.compile(r"^\*\*([A-Z][A-Z0-9]*)-(\d+)\*\* (\S.*)$", re.MULTILINE)
BOLD_NUMBER = re.compile(r"\*\*[A-Za-z0-9]+-\d+\W*\*\*")
INDEX = re.compile(r"^\| .*\[[^]]+\]\(([a-z0-9_]+\.md)\).* \| `([A-Z][A-Z0-9]*)` \|$", re.MULTILINE)


def stated(pages: Mapping[str, str]) -> dict[str, list[str]]:
    """The statements of each page, in order."""
    return {
        page: [f"{prefix}-{number}" for prefix, number, _ in STATEMENT.findall(text)]
        for page, text in pages.items()
    }


def cited(source: str) -> list[str]:
    """What the markers `statement` of a test file cite; they must be written out."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.statement"):
            assert node.args, f"line {node.lineno}: a marker that cites nothing"
            assert not node.keywords, f"line {node.lineno}: a marker takes numbers alone"
            for arg in node.args:
                ok = isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                assert ok, f"line {node.lineno}: {ast.unparse(arg)} is not a number written out"
                found.append(arg.value)
    return found


def faults(
    pages: Mapping[str, str], citations: Mapping[str, Iterable[str]], index: str
) -> list[str]:
    """What is wrong, one line each."""
    by_page = stated(pages)
    known = [s for statements in by_page.values() for s in statements]
    used = {s for names in citations.values() for s in names}
    return [
        *(f"{s} is stated {n} times" for s, n in Counter(known).items() if n > 1),
        *(fault for page, own in by_page.items() for fault in _of_page(page, pages[page], own)),
        *(f"{s} has no test" for s in dict.fromkeys(known) if s not in used),
        *(
            f"{file} cites {s}, which no page states"
            for file, names in citations.items() for s in sorted(set(names) - set(known))
        ),
        *_of_index(by_page, index),
    ]  # fmt: skip


def _of_page(page: str, text: str, statements: list[str]) -> list[str]:
    numbers = [int(s.rpartition("-")[2]) for s in statements]
    prefixes = sorted({s.rpartition("-")[0] for s in statements})
    found = []
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"{page} numbers its statements {numbers}, not from 1 without gaps")
    if len(prefixes) != 1:
        found.append(f"{page} has statements of {', '.join(prefixes) or 'no prefix'}, not of one")
    if len(BOLD_NUMBER.findall(text)) != len(statements):
        found.append(f"{page} has a number in bold that does not begin a statement")
    for prefix, number, sentence in STATEMENT.findall(text):
        if not sentence.endswith("."):
            found.append(f"{prefix}-{number} does not end with a full stop")
    return found


def _of_index(by_page: Mapping[str, list[str]], index: str) -> list[str]:
    listed = dict(INDEX.findall(index))
    have = {page: own[0].rpartition("-")[0] for page, own in by_page.items() if own}
    return [
        f"README.md lists {page} as {listed.get(page)}, which has {have.get(page)}"
        for page in sorted(have.keys() | listed.keys()) if listed.get(page) != have.get(page)
    ]  # fmt: skip


def test_every_statement_has_a_test_and_every_citation_a_statement():
    pages = {p.name: p.read_text(encoding="utf-8") for p in SPEC.glob("*.md")}
    index = pages.pop("README.md")
    citations = {
        str(p.relative_to(ROOT)): cited(p.read_text(encoding="utf-8"))
        for p in sorted((ROOT / "tests").rglob("test_*.py"))
    }
    assert pages
    assert not (found := faults(pages, citations, index)), "\n".join(found)


def test_every_link_of_a_page_leads_somewhere():
    for page in SPEC.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (SPEC / target).exists(), f"{page.name} links to {target}"


GOOD = "# A\n\n**AB-1** One.\n**AB-2** Two.\n"
LISTED = "| a | [a](a.md) | `a.py` | `AB` |\n"
CITING = {"t.py": ["AB-1", "AB-2"]}


def fault_of(page: str = GOOD, citing: Mapping[str, Iterable[str]] = CITING, index: str = LISTED):
    return faults({"a.md": page}, citing, index)


def test_a_page_whose_statements_are_cited_has_no_fault():
    assert fault_of() == []


def test_each_fault_is_named():
    assert fault_of(citing={"t.py": ["AB-2"]}) == ["AB-1 has no test"]
    assert fault_of(citing={"t.py": ["AB-1", "AB-2", "AB-3"]}) == [
        "t.py cites AB-3, which no page states"
    ]
    assert fault_of(GOOD + "**AB-2** Again.\n") == [
        "AB-2 is stated 2 times",
        "a.md numbers its statements [1, 2, 2], not from 1 without gaps",
    ]
    assert fault_of("**AB-2** Two.\n**AB-1** One.\n") == [
        "a.md numbers its statements [2, 1], not from 1 without gaps"
    ]
    assert fault_of("**AB-1** One.\n**AC-2** Two.\n", {"t.py": ["AB-1", "AC-2"]}) == [
        "a.md has statements of AB, AC, not of one"
    ]
    assert fault_of(GOOD.replace("Two.", "Two")) == ["AB-2 does not end with a full stop"]
    assert fault_of(GOOD + "- **AB-3**: three.\n") == [
        "a.md has a number in bold that does not begin a statement"
    ]


def test_a_statement_of_two_pages_is_a_fault():
    both = LISTED + LISTED.replace("a.md", "b.md")
    assert faults({"a.md": GOOD, "b.md": GOOD}, CITING, both)[:2] == [
        "AB-1 is stated 2 times",
        "AB-2 is stated 2 times",
    ]


def test_a_page_that_the_index_does_not_list_or_lists_wrongly_is_a_fault():
    assert fault_of(index="") == ["README.md lists a.md as None, which has AB"]
    assert fault_of(index=LISTED.replace("AB", "AC")) == [
        "README.md lists a.md as AC, which has AB"
    ]
    assert fault_of(index=LISTED + LISTED.replace("a.md", "b.md")) == [
        "README.md lists b.md as AB, which has None"
    ]


def test_citations_are_found_above_functions_and_in_parameters_and_nowhere_else():
    source = '''
@pytest.mark.statement("AB-1", "AB-2")
@given(x=1)
def test_a(): ...

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.statement("AB-3"))])
def test_b(x):
    """AB-4"""
    # pytest.mark.statement("AB-5")
'''
    assert sorted(cited(source)) == ["AB-1", "AB-2", "AB-3"]


@pytest.mark.parametrize(
    "call", ["statement(X)", "statement()", "statement(1)", 'statement("AB-1", why="x")']
)
def test_a_citation_that_is_not_written_out_is_refused(call):
    with pytest.raises(AssertionError, match="line 1"):
        cited(f"@pytest.mark.{call}\ndef test_a(): ...")
