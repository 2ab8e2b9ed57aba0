"""A run: every law of every op of a target, in every dtype that it declares."""

from __future__ import annotations

import itertools
import multiprocessing
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lingspec.conformance.case import Case
from lingspec.conformance.certificate import digests
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_supported
from lingspec.conformance.environment import environment
from lingspec.conformance.findings import Verdict
from lingspec.conformance.ledger import Ledger, refuse_unmatched
from lingspec.conformance.plan import plan
from lingspec.conformance.proof import complete
from lingspec.conformance.recheck import recheck
from lingspec.conformance.report import Options, PartReport, Report
from lingspec.conformance.run import Part, laws_for, parts
from lingspec.conformance.runner.host import Host, RunnerError, Server, TargetRefused
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
    refuse_lone_shard(options)
    ledger = Ledger(options.waivers)
    with opened(options) as host:
        work = work_of(host, options)
        if not options.narrowed:
            refuse_unmatched(options.waivers, work)
        sources = host.sources()
        subjects = digests(sources)
        packages = environment(options.device, [module for module, _ in sources])
        seed = _seed(options, subjects)
        tasks = tasks_of(work, options, seed)
        sharded = options.shard != (1, 1)
        reports = [PartReport(p, ledger=ledger, shard=sharded) for p in work]
        loaded, ended = _judged(host, options, reports, tasks, progress)
        if not ended:
            recheck(host, reports, options)
        for report in reports:
            report.verdicts.sort(key=lambda v: v.case)
            if not sharded:
                complete(report, options.profile)
        if options.laws:  # an op that declares none of them was not judged
            reports = [r for r in reports if set(options.laws) & set(laws_for(contract(r.op)))]
    found = _all_subjects(subjects, loaded)
    return Report(options, seed, found, reports, ledger, ended, packages)


def refuse_lone_shard(options: Options) -> None:
    """Refuse a shard that could not be one of a whole.

    Raises:
        TargetRefused: it has a seed of its own, or leaves out what another shard does not.
    """
    if options.shard == (1, 1):
        return
    part, parts = options.shard
    if options.fail_fast:
        raise TargetRefused(
            "usage", f"--shard {part}/{parts} and --fail-fast exclude each other: what is left out "
            "would depend on the shard",
        )  # fmt: skip
    if options.seed is None and options.draw is None and options.profile != "smoke":
        raise TargetRefused(
            "usage", f"--shard {part}/{parts} needs the seed of the other shards: --seed-file FILE "
            "(`lingspec seed TARGET --out FILE` draws it once the candidate's files are hashed), "
            "or --seed N",
        )  # fmt: skip


def _seed(options: Options, subjects: list[dict[str, Any]]) -> int:
    if options.draw is not None:
        options.draw.refuse_others(options.target, subjects)
        return options.draw.seed
    if options.seed is not None:
        return options.seed
    return 0 if options.profile == "smoke" else secrets.randbits(32)


def _judged(
    host: Host, options: Options, reports: list[PartReport], tasks: list[Task],
    progress: Callable[[int, int, Verdict], None],
) -> tuple[dict[str, str], str]:  # fmt: skip
    """Put the verdicts into the reports.

    Returns:
        Files of the candidate that were loaded meanwhile, and why it ended early, if it did.

    Raises:
        RunnerError: no process lived long enough to judge anything.
    """
    for task in tasks:
        reports[task.part].left_out[task.law] += 1
    broken: set[tuple[int, str]] = set()  # part and law
    loaded: dict[str, str] = {}

    def needed(task: Task) -> bool:
        return not options.fail_fast or (task.part, task.law) not in broken

    judge, left = _Judge(host, [r.part for r in reports]), filter(needed, tasks)
    n = 0
    try:
        judged = map(judge, left) if options.workers == 1 else _spread(options, left)
        for n, (task, verdict, sources) in enumerate(judged, 1):
            report = reports[task.part]
            report.verdicts.append(verdict)
            report.left_out[task.law] -= 1
            if report.status_of(verdict) != "WAIVED":
                broken |= {(task.part, finding.law) for finding in verdict.findings}
            loaded |= sources
            progress(n, len(tasks), verdict)
    except KeyboardInterrupt:
        return loaded, f"interrupted after {n} of {len(tasks)} cases"
    except BrokenProcessPool as lost:
        if not n:
            raise RunnerError("a worker process ended before it judged any case") from lost
        return loaded, f"a worker process ended; {n} of {len(tasks)} cases were judged"
    return loaded, ""


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
    offered = [candidate.op for candidate in host.candidates]
    if lacking := [op for op in options.ops if op not in offered]:
        raise TargetRefused("usage", f"{options.target!r} has nothing for {', '.join(lacking)}")
    for candidate in host.candidates:
        if options.ops and candidate.op not in options.ops:
            continue
        made += parts(candidate, contract(candidate.op), options.precision)
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
        verdict = judge_supported(
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

        try:
            pending = begun(2 * options.workers)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                pending |= begun(len(done))
        finally:  # whoever stops early waits for no case that has not begun
            pool.shutdown(wait=False, cancel_futures=True)
