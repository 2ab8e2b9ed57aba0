"""A run: every law of every op of a target, in every dtype that it declares."""

from __future__ import annotations

import multiprocessing
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lingspec.conformance.accuracy.power import REJECTIONS, unproven
from lingspec.conformance.case import Case
from lingspec.conformance.certificate import digests
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.plan import plan
from lingspec.conformance.run import Part, laws_for, parts
from lingspec.conformance.runner.host import Host, Server, TargetRefused
from lingspec.conformance.workers import follow_parent

__all__ = ["Options", "PartReport", "Report", "Task", "opened", "run", "tasks_of", "work_of"]

# Laws that ask for the right results of a plain call: they are broken whatever is wrong.
PLAIN = ("authority", "untouched", "strides")
ALWAYS = ("zeros", "gain 1.01")  # degenerates of every op


@dataclass(frozen=True)
class Options:
    """What `lingspec certify` was asked."""

    target: str = "kernels"
    ops: tuple[str, ...] = ()
    profile: str = "ci"
    device: str = "cpu"
    seed: int | None = None
    precision: str | None = None
    backward: bool = False
    workers: int = 1
    shard: tuple[int, int] = (1, 1)
    timeout: float = 60.0


@dataclass(frozen=True)
class Task:
    """One case for one part."""

    part: int
    case: Case
    index: int  # of the case among those of its law
    power: bool


@dataclass
class PartReport:
    """What one candidate came to in one dtype."""

    part: Part
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def op(self) -> str:
        """The op that was judged."""
        return self.part.candidate.op

    def laws(self) -> dict[str, Counter[str]]:
        """Statuses of the cases of each law."""
        made: dict[str, Counter[str]] = {law: Counter() for law in laws_for(contract(self.op))}
        for verdict in self.verdicts:
            made[verdict.law][verdict.status] += 1
        return made

    def findings(self) -> list[Finding]:
        """All findings, in the order of the laws."""
        order = {law: n for n, law in enumerate(laws_for(contract(self.op)))}
        found = [f for v in self.verdicts for f in v.findings]
        return sorted(found, key=lambda f: order.get(f.law, 99))

    def first(self) -> Finding | None:
        """The finding that says most: of a law alone, where the call itself was right."""
        order = {law: n for n, law in enumerate(laws_for(contract(self.op)))}
        found = [(v, f) for v in self.verdicts for f in v.findings]

        def rank(pair: tuple[Verdict, Finding]) -> tuple[bool, bool, int]:
            verdict, finding = pair
            wrong_anyway = any(f.law in PLAIN for f in verdict.findings)
            return wrong_anyway, verdict.law != finding.law, order.get(finding.law, len(order))

        return min(found, key=rank)[1] if found else None

    def power(self) -> dict[str, int]:
        """How many cases rejected each degenerate; nothing where every bit is compared."""
        if contract(self.op).algebra.bits:
            return {}
        kills = Counter(name for v in self.verdicts for name in v.killed)
        asked = dict.fromkeys(name for v in self.verdicts for name in v.applicable)
        return {name: kills[name] for name in (asked or dict.fromkeys(ALWAYS))}

    def status(self, profile: str) -> str:
        """PASS, FAIL, or why neither can be said: VOID."""
        statuses = Counter(v.status for v in self.verdicts)
        if any(statuses[s] for s in ("FAIL", "CRASH", "TIMEOUT", "REJECTED")):
            return "FAIL"
        idle = [law for law, seen in self.laws().items() if seen["VOID"] and not seen["PASS"]]
        if idle or not statuses["PASS"] or self.unproven(profile):
            return "VOID"
        return "PASS"

    def unproven(self, profile: str) -> list[str]:
        """Degenerates that too few cases rejected."""
        return unproven(self.power(), 1 if profile == "smoke" else REJECTIONS)

    def untold(self, profile: str) -> list[str]:
        """Less precise results that this run did not tell from right ones."""
        least = 1 if profile == "smoke" else REJECTIONS
        weak = [n for n, kills in self.power().items() if kills < least]
        return [n for n in weak if n not in self.unproven(profile)]


@dataclass
class Report:
    """What a run came to."""

    options: Options
    seed: int
    subjects: list[dict[str, Any]]
    parts: list[PartReport]

    def status(self) -> str:
        """The verdict on the target."""
        statuses = [p.status(self.options.profile) for p in self.parts]
        if "FAIL" in statuses:
            return "FAIL"
        return "PASS" if statuses and all(s == "PASS" for s in statuses) else "VOID"

    def exit_code(self) -> int:
        """0 conforms, 1 does not, 3 cannot be said."""
        return {"PASS": 0, "FAIL": 1, "VOID": 3}[self.status()]

    @property
    def device(self) -> str:
        """Where it ran, in the word of the certificate."""
        devices = {self.device_of(p) for p in self.parts}
        return "emulated" if "emulated" in devices else self.options.device

    def device_of(self, part: PartReport) -> str:
        """Where one candidate ran: ``emulated`` if it launched kernels without a GPU."""
        launched = any(v.launches for v in part.verdicts)
        return "emulated" if launched and self.options.device == "cpu" else self.options.device

    @property
    def complete(self) -> bool:
        """Whether this run may certify."""
        return self.options.profile != "smoke" and self.options.shard == (1, 1)


def run(options: Options, progress: Callable[[int, int, Verdict], None]) -> Report:
    """Judge the target.

    The candidate's files are hashed before the seed is drawn: nothing can be fitted to it.

    Raises:
        TargetRefused: the target cannot be had, or nothing of it can be asked.
        RunnerError: the environment cannot run candidates.
    """
    with opened(options) as host:
        work = work_of(host, options)
        subjects = digests(host.sources())
        seed = options.seed
        if seed is None:
            seed = 0 if options.profile == "smoke" else secrets.randbits(32)
        tasks = tasks_of(work, options, seed)
        reports = [PartReport(p) for p in work]
        judge = _Judge(host, work)
        judged = map(judge, tasks) if options.workers == 1 else _spread(options, tasks)
        loaded: dict[str, str] = {}
        for n, (task, verdict, sources) in enumerate(judged):
            reports[task.part].verdicts.append(verdict)
            loaded |= sources
            progress(n + 1, len(tasks), verdict)
        for report in reports:
            report.verdicts.sort(key=lambda v: v.case)
    return Report(options, seed, _all_subjects(subjects, loaded), reports)


def _all_subjects(subjects: list[dict[str, Any]], loaded: dict[str, str]) -> list[dict[str, Any]]:
    """With what was imported later, by a call.

    Raises:
        TargetRefused: a file is not what it was when the run began.
    """
    now = {s["name"]: s for s in digests(loaded.items())}
    for subject in subjects:
        if now.setdefault(subject["name"], subject) != subject:
            raise TargetRefused("usage", f"{subject['name']} was changed while it was judged")
    return [now[name] for name in sorted(now)]


@contextmanager
def opened(options: Options) -> Iterator[Host]:
    """A host of the target."""
    head = options.target.partition(":")[0]
    registered = head in ("mutants", "honest")
    server = Server(
        options.device, "lingspec.conformance.registry" if registered else "",
        reference=head == "reference",
    )  # fmt: skip
    try:
        op = options.ops[0] if len(options.ops) == 1 else None
        host = Host(server, options.target, op, precision=options.precision,
                    backward=options.backward, timeout=options.timeout)  # fmt: skip
        try:
            yield host
        finally:
            host.close()
    finally:
        server.close()


def work_of(host: Host, options: Options) -> list[Part]:
    """What a run asks of the target: each candidate in each dtype that it declares."""
    made = []
    for candidate in host.candidates:
        if options.ops and candidate.op not in options.ops:
            continue
        made += parts(candidate, contract(candidate.op), options.precision)
    if not made:
        raise TargetRefused("usage", f"{options.target!r} has nothing for {', '.join(options.ops)}")
    return made


def tasks_of(work: Sequence[Part], options: Options, seed: int) -> list[Task]:
    """The cases of a run, those of its shard only."""
    tasks: list[Task] = []
    for p, part in enumerate(work):
        of = contract(part.candidate.op)
        counted: Counter[str | None] = Counter()
        for case in plan(of, laws_for(of), part.dtype, part.candidate.cost, options.profile, seed):
            tasks.append(Task(p, case, counted[case.law], case.law == "authority"))
            counted[case.law] += 1
    shard, shards = options.shard
    return tasks[shard - 1 :: shards]


Judged = tuple[Task, Verdict, dict[str, str]]


class _Judge:
    """Judges tasks on one host, and tells which files the candidate has come to be made of."""

    def __init__(self, host: Host, work: Sequence[Part]) -> None:
        self.host, self.work, self.modules = host, work, 0

    def __call__(self, task: Task) -> Judged:
        part = self.work[task.part]
        of = contract(part.candidate.op)
        verdict = judge_case(
            self.host, part.candidate, of, part.profile, task.case, power=task.power
        )
        sources: dict[str, str] = {}
        if self.host.modules > self.modules:
            sources, self.modules = dict(self.host.sources()), self.host.modules
        return task, verdict, sources


# -- several processes -----------------------------------------------------------------------

_mine: tuple[Any, _Judge] | None = None


def _start(options: Options) -> None:
    global _mine
    import torch

    follow_parent()
    torch.set_num_threads(1)
    manager = opened(options)
    host = manager.__enter__()
    _mine = (manager, _Judge(host, work_of(host, options)))


def _judge_mine(task: Task) -> Judged:
    assert _mine is not None
    return _mine[1](task)


def _spread(options: Options, tasks: Sequence[Task]) -> Iterator[Judged]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, _start, (options,)) as pool:
        pending: set[Future[Judged]] = {pool.submit(_judge_mine, t) for t in tasks}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
