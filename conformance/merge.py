"""Shards put together: the report that one run with the same seed would have made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingspec.conformance.certificate import contract_digest
from lingspec.conformance.certify import tasks_of
from lingspec.conformance.config import ConfigError
from lingspec.conformance.contracts import contract
from lingspec.conformance.mustpass import SPEC_VERSION, digest
from lingspec.conformance.proof import complete
from lingspec.conformance.report import PartReport, Report
from lingspec.conformance.results import read, report_of

__all__ = ["merge"]

# What shards of one run share: a key of results.json, and the words for it.
SHARED = (
    ("specVersion", "version of the specification"), ("requiredCases", "required cases"),
    ("seed", "seed"), ("seedDrawn", "seed drawn"), ("environment", "environment"), ("asked", ""),
)  # fmt: skip


def merge(folders: Sequence[Path]) -> Report:
    """The report of the run whose shards are in ``folders``.

    Raises:
        ConfigError: they are not all shards of one run, each of them once.
        OSError: one cannot be read.
    """
    told = {str(folder): read(folder) for folder in folders}
    if len(told) < len(folders):
        raise ConfigError("a folder is named twice")
    reports = {place: report_of(data, place) for place, data in told.items()}
    first, *others = told
    _whole(reports)
    for place in others:
        for key, words in SHARED:
            _same(first, told[first].get(key), place, told[place].get(key), words)
        _same_parts(first, reports[first], place, reports[place])
    _ours(first, told[first])
    for place, report in reports.items():
        _asked(place, report)
    return _together(list(reports.values()), _subjects(told))


def _whole(reports: Mapping[str, Report]) -> None:
    """That there is every shard, once."""
    counts = {place: report.options.shard[1] for place, report in reports.items()}
    n = next(iter(counts.values()))
    for place, other in counts.items():
        if other != n:
            raise ConfigError(f"{place} is one of {other} shards, but {next(iter(counts))} of {n}")
    if n == 1:
        raise ConfigError(f"{next(iter(counts))} is a whole run, not a shard")
    there: dict[int, str] = {}
    for place, report in reports.items():
        i = report.options.shard[0]
        if i in there:
            raise ConfigError(f"shard {i}/{n} is in {there[i]} and in {place}")
        there[i] = place
    if missing := [f"{i}/{n}" for i in range(1, n + 1) if i not in there]:
        raise ConfigError(f"shard {', '.join(missing)} is missing")


def _same(first: str, ours: Any, place: str, theirs: Any, words: str) -> None:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in {**ours, **theirs}:
            _same(first, ours.get(key), place, theirs.get(key), f"{words} {key}".strip())
    elif ours != theirs:
        raise ConfigError(
            f"{place} has {words} {theirs!r}, but {first} has {ours!r}: not shards of one run"
        )


def _same_parts(first: str, ours: Report, place: str, theirs: Report) -> None:
    """That the candidates and their dtypes are the same."""
    mine, other = ([p.part for p in report.parts] for report in (ours, theirs))
    if mine != other:
        named = [
            ", ".join(f"{p.candidate.name} {p.dtype} {p.profile.name}" for p in parts)
            for parts in (other, mine)
        ]
        raise ConfigError(
            f"{place} has candidates {named[0]}, but {first} has {named[1]}, or they declare "
            "something else: not shards of one run"
        )


def _ours(place: str, told: Mapping[str, Any]) -> None:
    """That this installation means the same by the ops and the required cases."""
    _same("this installation", SPEC_VERSION, place, told["specVersion"], SHARED[0][1])
    _same("this installation", digest(), place, told["requiredCases"], SHARED[1][1])
    for op, made in told["asked"]["contracts"].items():
        here = contract_digest(contract(op))
        _same("this installation", here, place, made, f"contract of {op}")


def _asked(place: str, report: Report) -> None:
    """That the cases are those which the seed gives this shard."""
    planned = [Counter[str]() for _ in report.parts]
    due = [Counter[str]() for _ in report.parts]
    for task in tasks_of([p.part for p in report.parts], report.options, report.seed):
        planned[task.part][str(task.case)] += 1
        due[task.part][task.law] += 1
    for p, cases, laws in zip(report.parts, planned, due, strict=True):
        given = Counter(v.instead or v.case for v in p.verdicts)
        counted = Counter(v.law for v in p.verdicts) + p.left_out
        if given - cases or counted != laws:
            odd = next(iter(given - cases), "the number of cases of a law")
            raise ConfigError(
                f"{place} is not shard {'/'.join(map(str, report.options.shard))} of seed "
                f"{report.seed}: {odd} of {p.part.candidate.name} in {p.part.dtype} is not what "
                "is asked there"
            )


def _subjects(told: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All files of the candidate; what a call imports may be known to one shard only."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, data in told.items():
        for subject in data["subjects"]:
            where, known = found.setdefault(subject["name"], (place, subject))
            if known != subject:
                raise ConfigError(
                    f"{subject['name']} was another file in {place} than in {where}: not shards "
                    "of one run"
                )
    return [found[name][1] for name in sorted(found)]


def _together(reports: Sequence[Report], subjects: list[dict[str, Any]]) -> Report:
    first = reports[0]
    parts = []
    for n, mine in enumerate(first.parts):
        same = [report.parts[n] for report in reports]
        verdicts = sorted((v for p in same for v in p.verdicts), key=lambda v: v.case)
        left = sum((p.left_out for p in same), Counter[str]())
        parts.append(PartReport(mine.part, verdicts, left, first.ledger))
        complete(parts[-1], first.options.profile)
    ended = "; ".join(
        f"shard {report.options.shard[0]}: {report.ended}" for report in reports if report.ended
    )
    options = replace(first.options, shard=(1, 1))
    return Report(
        options, first.seed, subjects, parts, first.ledger, ended, first.environment
    )  # fmt: skip
