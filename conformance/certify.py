"""A run: every law of every op of a target, in every dtype that it declares."""

from __future__ import annotations

import itertools
import multiprocessing
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lingspec.conformance.case import Case
from lingspec.conformance.certificate import digests
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Verdict
from lingspec.conformance.plan import plan
from lingspec.conformance.recheck import recheck
from lingspec.conformance.report import Options, PartReport, Report
from lingspec.conformance.run import Part, laws_for, parts
from lingspec.conformance.runner.host import Host, Server, TargetRefused
from lingspec.conformance.runner.server import allowance
from lingspec.conformance.workers import follow_parent

__all__ = ["Task", "opened", "run", "tasks_of", "work_of"]


@dataclass(frozen=True)
class Task:
    """One case for one part."""

    part: int
    case: Case
    index: int  # of the case among those of its law
    power: bool

    @property
    def law(self) -> str:
        """The law that asks."""
        return self.case.law or "authority"


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
        for task in tasks:
            reports[task.part].left_out[task.law] += 1
        broken: set[tuple[int, str]] = set()  # part and law

        def needed(task: Task) -> bool:
            return not options.fail_fast or (task.part, task.law) not in broken

        judge, left = _Judge(host, work), filter(needed, tasks)
        judged = map(judge, left) if options.workers == 1 else _spread(options, left)
        loaded: dict[str, str] = {}
        for n, (task, verdict, sources) in enumerate(judged):
            reports[task.part].verdicts.append(verdict)
            reports[task.part].left_out[task.law] -= 1
            broken |= {(task.part, finding.law) for finding in verdict.findings}
            loaded |= sources
            progress(n + 1, len(tasks), verdict)
        recheck(host, reports, options)
        for report in reports:
            report.verdicts.sort(key=lambda v: v.case)
        if options.laws:  # an op that declares none of them was not judged
            reports = [report for report in reports if report.verdicts]
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
        reference=head == "reference", memory=allowance(options.memory, options.workers),
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
    if options.laws:
        tasks = [task for task in tasks if task.law in options.laws]
        if not tasks:
            laws = ", ".join(options.laws)
            raise TargetRefused("usage", f"{options.target!r} has no op that declares law {laws}")
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


def _spread(options: Options, tasks: Iterator[Task]) -> Iterator[Judged]:
    """Judge tasks in several processes; each is taken only when one of them is nearly free."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, _start, (options,)) as pool:

        def begun(number: int) -> set[Future[Judged]]:
            return {pool.submit(_judge_mine, task) for task in itertools.islice(tasks, number)}

        pending = begun(2 * options.workers)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            pending |= begun(len(done))
