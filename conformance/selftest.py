"""The suite against itself: every mutant must be rejected, no honest variant may be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lingspec.conformance.case import Case
from lingspec.conformance.contracts import contract as contract_of
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Finding
from lingspec.conformance.plan import plan
from lingspec.conformance.run import Part, laws_for, parts
from lingspec.conformance.runner.host import Host, Server
from lingspec.conformance.session import Memo

__all__ = ["Row", "interleaved", "run_self_test"]


@dataclass
class Row:
    """One target of the self-test."""

    kind: str  # mutants or honest
    name: str
    op: str
    expected: tuple[str, ...] = ()  # laws that a mutant names
    broken: dict[str, int] = field(default_factory=dict)  # law -> case number that broke it first
    cases: int = 0
    seconds: float = 0.0
    worst: float = 0.0
    answered: bool = False  # once at least: what only crashes is no wrong kernel, but a broken test
    first: Finding | None = None
    without: str = ""  # a law that is left out: its cases, and what it finds in those of others

    @property
    def done(self) -> bool:
        """A mutant is done when the law that it names is broken; an honest variant never is.

        Where a law is left out, any other that is broken will do.
        """
        if not self.answered:
            return False
        if self.without:
            return bool(self.broken)
        return self.kind == "mutants" and bool(self.expected) and self.expected[0] in self.broken

    def late(self, law: str | None) -> bool:
        """Whether a case of ``law`` comes after all of those that break a mutant most likely."""
        return self.kind == "mutants" and not self.without and law not in self.expected[:1]

    @property
    def ok(self) -> bool:
        """Rejected for what it names, or accepted."""
        return self.done if self.kind == "mutants" else not self.broken


def run_self_test(
    op: str, targets: Iterable[tuple[str, str]], profile: str, seed: int,
    progress: Callable[[int, int], None] = lambda *_: None, *, without: str = "",
) -> list[Row]:  # fmt: skip
    """Run cases one by one on all targets of ``op`` that are not done: (kind, name) each.

    Mutants get the cases of the law that they name first, and the others if they live; until then
    ``progress`` is told how many cases of how many were run. Cases of the law ``without`` are not.
    """
    contract = contract_of(op)
    server = Server(preload="lingspec.conformance.registry")
    rows: dict[str, Row] = {}
    hosts: dict[str, Host] = {}
    work: dict[tuple[str, str, str], list[tuple[str, Part]]] = {}
    try:
        for kind, name in targets:
            target = f"{kind}:{name}"
            host = hosts[target] = Host(server, target, op)
            info = host.candidates[0]
            laws = tuple(info.extra.get("laws", ()))
            rows[target] = Row(kind, name, op, laws, without=without)
            for part in parts(info, contract):
                work.setdefault((part.dtype, part.profile.name, info.cost), []).append(
                    (target, part)
                )
        rounds = [r for r in _rounds(work, op, profile, seed) if r[1].law != without]
        for late in (False, True):
            for n, (group, case) in enumerate(rounds):
                if not late:
                    progress(n, len(rounds))
                memo: Memo = {}
                for target, part in work[group]:
                    if not rows[target].done and rows[target].late(case.law) == late:
                        _judge(rows[target], hosts[target], part, case, memo)
    finally:
        for host in hosts.values():
            host.close()
        server.close()
    return list(rows.values())


def _rounds(
    work: dict[tuple[str, str, str], list[tuple[str, Part]]], op: str, profile: str, seed: int
) -> Iterator[tuple[tuple[str, str, str], Case]]:
    """Cases of all groups, in turn, so that every law in every dtype comes early."""
    contract = contract_of(op)
    plans = {
        group: interleaved(plan(contract, laws_for(contract), group[0], group[2], profile, seed))
        for group in work
    }
    for n in range(max(map(len, plans.values()), default=0)):
        for group, cases in plans.items():
            if n < len(cases):
                yield group, cases[n]


def interleaved(cases: list[Case]) -> list[Case]:
    """The same cases, laws in turn."""
    by_law: dict[str | None, list[Case]] = {}
    for case in cases:
        by_law.setdefault(case.law, []).append(case)
    rounds = max(map(len, by_law.values()), default=0)
    return [of[n] for n in range(rounds) for of in by_law.values() if n < len(of)]


def _judge(row: Row, host: Host, part: Part, case: Case, memo: Memo) -> None:
    began = time.monotonic()
    verdict = judge_case(host, part.candidate, contract_of(row.op), part.profile, case, memo=memo)
    row.seconds += time.monotonic() - began
    row.cases += verdict.status not in ("NOT SUPPORTED", "VOID")
    row.answered |= verdict.status in ("PASS", "FAIL", "REJECTED")
    row.worst = max(row.worst, verdict.worst)
    for finding in verdict.findings:
        if finding.law == row.without:  # every call is watched by laws of which it is no case
            continue
        row.broken.setdefault(finding.law, row.cases)
        row.first = row.first or finding
