"""Which values of each attribute of an op were exercised, by cases that count.

Attributes are those of the contract: dtypes, traits, flags, axes, packed sequences. Zero stands
beside a value that the contract offers and no case had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Contract
from lingspec.conformance.contracts import contract
from lingspec.conformance.run import SHORT
from lingspec.conformance.text import counted

if TYPE_CHECKING:
    from lingspec.conformance.report import PartReport

__all__ = ["Table", "compact", "exercised", "lines", "tables"]

Table = dict[str, dict[str, int]]  # attribute -> value -> cases

TILE = 64  # the chunk that kernels work in
IDLE = ("VOID", "NOT SUPPORTED", "WAIVED")  # cases that show nothing
CLASSES = ("0", "1", str(TILE - 1), "other")
LENGTHS = ("0", "1", f"2 to {TILE - 1}", f"{TILE} or more")


def exercised(of: Contract, cases: Iterable[Case]) -> Table:
    """How many cases had each value of each attribute."""
    seen: dict[str, Counter[str]] = {name: Counter(values) for name, values in _offered(of)}
    for case in cases:
        for attribute, value in set(_values(of, case)):
            seen[attribute][value] += 1
    return {attribute: dict(counts) for attribute, counts in seen.items()}


def tables(parts: Sequence[PartReport]) -> list[dict[str, Any]]:
    """A table for each op and candidate, over its dtypes."""
    found: dict[tuple[str, str], list[Case]] = {}
    for part in parts:
        cases = found.setdefault((part.op, part.part.candidate.name), [])
        of = contract(part.op)
        cases += [of.parse(v.case) for v in part.verdicts if part.status_of(v) not in IDLE]
    return [
        {"op": op, "candidate": name, "cases": len(cases),
         "attributes": exercised(contract(op), cases)}
        for (op, name), cases in found.items()
    ]  # fmt: skip


def compact(table: Table) -> dict[str, dict[str, list[str]]]:
    """By attribute, the values that were exercised and those that were not."""
    told = {}
    for attribute, counts in table.items():
        told[attribute] = {"exercised": [value for value, n in counts.items() if n]}
        if missed := [value for value, n in counts.items() if not n]:
            told[attribute]["not"] = missed
    return told


def lines(parts: Sequence[PartReport], target: str) -> Iterator[str]:
    """The tables for people."""
    for told in tables(parts):
        known = (told["op"], target.partition(":")[2])
        name = "" if told["candidate"] in known else f" · {told['candidate']}"
        cases = counted(told["cases"], "case")
        yield f"coverage  {told['op']} · {target}{name}: {cases}"
        attributes: Table = told["attributes"]
        wide = max(len(attribute) for attribute in attributes)
        for attribute, counts in attributes.items():
            words = ", ".join(f"{value} ×{n}" for value, n in counts.items() if n) or "nothing"
            missed = ", ".join(value for value, n in counts.items() if not n)
            yield f"    {attribute:<{wide}}  {words}" + (f"; never {missed}" if missed else "")


def _offered(of: Contract) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Every attribute of an op, with its values in order, none of them seen."""

    def none_of(values: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(values, 0)

    yield "dtype", none_of(SHORT.get(dtype, dtype) for dtype in of.profiles)
    for kind, members in of.traits.items():
        yield kind, none_of(members)
    for flag in of.flags:
        yield flag, none_of(("yes", "no"))
    for axis, sizes in of.axes.items():
        ends = _ends(*sizes)
        whole = sizes[1] - sizes[0] < len(ends)
        yield axis, none_of([*map(str, ends), *([] if whole else ["other"])])
    tokens = _tokens(of)
    if tokens:
        yield f"{tokens} mod {TILE}", none_of(CLASSES)
    if of.algebra.packed:
        yield "packed", none_of(("yes", "no"))
        yield "sequences", none_of(("0", "1", "more"))
        yield "lengths", none_of(LENGTHS)


def _values(of: Contract, case: Case) -> Iterator[tuple[str, str]]:
    """Attribute and value, as far as they apply to the case; lengths may have several values."""
    yield "dtype", case.dtype
    yield from case.traits.items()
    yield from ((flag, "yes" if flag in case.flags else "no") for flag in of.flags)
    for axis, n in case.axes.items():
        if axis in of.axes:
            yield axis, str(n) if n in _ends(*of.axes[axis]) else "other"
    tokens, lengths = _tokens(of), case.lengths
    if of.algebra.packed:
        yield "packed", "no" if lengths is None else "yes"
    for n in [case.axes[tokens]] if tokens in case.axes else lengths or ():
        rest = str(n % TILE)
        if n:  # what holds nothing has no last chunk
            yield f"{tokens} mod {TILE}", rest if rest in CLASSES else "other"
    if lengths is not None:
        yield "sequences", _few(len(lengths))
        yield from (("lengths", _length(n)) for n in lengths)


def _tokens(of: Contract) -> str:
    """The axis along which sequences lie; nothing where there is none."""
    algebra = of.algebra
    told = algebra.packed or algebra.stateful or algebra.causal
    return told or ("T" if "T" in of.axes else "")


def _ends(least: int, most: int) -> list[int]:
    """The sizes of an axis that are told one by one: its ends, 0 and 1."""
    return sorted({least, most} | {n for n in (0, 1) if least <= n <= most})


def _few(n: int) -> str:
    return str(n) if n < 2 else "more"


def _length(n: int) -> str:
    return str(n) if n < 2 else LENGTHS[2] if n < TILE else LENGTHS[3]
