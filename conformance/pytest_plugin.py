"""`pytest --lingspec TARGET`: one test a case, beside whatever else pytest collects.

Cases are drawn from a fixed seed, so that every process of xdist collects the same ones and `--lf`
finds them again. Nothing heavy is imported before it is asked for. A green run is no certificate:
`lingspec certify` draws a fresh seed and proves what the run would have rejected.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lingspec.conformance.case import Case
    from lingspec.conformance.report import Options
    from lingspec.conformance.run import Part
    from lingspec.conformance.runner.host import Host

ROOT = "lingspec"  # node ids begin with it
_RUN = pytest.StashKey["_Run"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--lingspec` and what goes with it."""
    group = parser.getgroup(ROOT, "conformance to Ling 2.5")
    group.addoption("--lingspec", metavar="TARGET", help="Judge TARGET, as `lingspec certify`.")
    group.addoption(
        "--lingspec-op", action="append", default=[], metavar="OP", help="Only this op."
    )
    group.addoption(
        "--lingspec-profile", choices=("smoke", "ci", "full"), default="ci", help="How many cases."
    )
    group.addoption("--lingspec-seed", type=int, default=0, metavar="N", help="0 by default.")
    group.addoption("--lingspec-precision", metavar="NAME", help="The precision profile.")
    group.addoption(
        "--lingspec-backward", action="store_true", help="An undecorated function has gradients."
    )
    group.addoption("--lingspec-device", choices=("cpu", "cuda"), default="cpu")
    group.addoption(
        "--lingspec-timeout", type=float, default=60.0, metavar="S", help="Seconds for one call."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep node ids of cases from being taken for paths; they go to xdist's workers as options."""
    if not config.getoption("lingspec"):
        return
    ours = [a for a in config.args if str(a).startswith(f"{ROOT}::")]
    if ours:
        config.args[:] = [a for a in config.args if a not in ours]
        config.option.lingspec_only = ours
    config.stash[_RUN] = _Run(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the candidate's process."""
    if _RUN in config.stash:
        config.stash[_RUN].close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Append the cases, before -k, -m and --lf choose among all."""
    if _RUN not in config.stash:
        return
    cases: list[pytest.Item] = list(_Cases.from_parent(session, name=ROOT, nodeid=ROOT).collect())
    only = getattr(config.option, "lingspec_only", None)
    if only:
        unknown = set(only) - {item.nodeid for item in cases}
        if unknown:
            raise pytest.UsageError(f"no case {sorted(unknown)[0]}; see --collect-only")
        cases = [item for item in cases if item.nodeid in only]
    items.extend(cases)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what ran; xdist sends the reports of its workers here."""
    if report.nodeid.startswith(f"{ROOT}::") and (report.when == "call" or report.failed):
        _outcomes[report.outcome] += 1


_outcomes: Counter[str] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which no case ran does not pass."""
    config = session.config
    if _RUN not in config.stash or hasattr(config, "workerinput") or config.option.collectonly:
        return
    if exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED) and not _ran():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: Any, config: pytest.Config
) -> None:  # the reporter's class is private
    """What the run says, and what it does not."""
    if _RUN not in config.stash or config.option.collectonly:
        return
    target = config.getoption("lingspec")
    if not _ran():
        terminalreporter.write_line(f"lingspec: no case of {target} ran: no verdict", red=True)
        return
    told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(_outcomes.items()))
    terminalreporter.write_line(f"lingspec: {target}: {told}; no certificate (lingspec certify)")


def _ran() -> bool:
    return bool(_outcomes["passed"] or _outcomes["failed"])


class _Run:
    """The candidate's process, started once per pytest process and only if it is needed."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._open = contextlib.ExitStack()
        self._host: Host | None = None
        _outcomes.clear()

    @property
    def options(self) -> Options:
        from lingspec.conformance.report import Options

        told = self.config.getoption
        return Options(
            target=told("lingspec"), ops=tuple(told("lingspec_op")),
            profile=told("lingspec_profile"), device=told("lingspec_device"),
            seed=told("lingspec_seed"), precision=told("lingspec_precision"),
            backward=told("lingspec_backward"), timeout=told("lingspec_timeout"),
        )  # fmt: skip

    @property
    def host(self) -> Host:
        if self._host is None:
            from lingspec.conformance.certify import opened

            self._host = self._open.enter_context(opened(self.options))
        return self._host

    def cases(self) -> Iterator[tuple[str, Part, Case]]:
        """Every case with its id, in the order of a run."""
        from lingspec.conformance.certify import tasks_of, work_of

        work = work_of(self.host, self.options)
        for task in tasks_of(work, self.options, self.options.seed or 0):
            part = work[task.part]
            words = (part.candidate.name, part.dtype, part.profile.name, task.case.law)
            name = "-".join(map(str, words))
            yield f"{part.candidate.op}[{name}-{task.index:02d}]", part, task.case

    def close(self) -> None:
        self._open.close()


class _Cases(pytest.Collector):
    """The cases of the target."""

    def collect(self) -> Iterator[pytest.Item]:
        from lingspec.conformance.contracts import UnknownOpError, contract
        from lingspec.conformance.runner.host import RunnerError, TargetRefused

        run = self.config.stash[_RUN]
        try:
            for op in run.options.ops:
                contract(op)
            for name, part, case in run.cases():
                # The id as text: pytest 9 splits the brackets off it, as where it reads its cache.
                node = f"{ROOT}::{name}"
                yield _CaseItem.from_parent(self, name=name, nodeid=node, part=part, case=case)
        except (RunnerError, TargetRefused, UnknownOpError) as refused:
            if not hasattr(self.config, "workerinput"):
                raise pytest.UsageError(f"--lingspec: {refused}") from refused
            # A worker of xdist cannot refuse the command.
            yield _Refused.from_parent(self, name="target", refusal=str(refused))


class NonConformance(Exception):  # noqa: N818 - it is a verdict
    """A case that the candidate does not pass; the text is the report of the failure."""


class _CaseItem(pytest.Item):
    """One case against one candidate in one dtype."""

    def __init__(self, *, part: Part, case: Case, **node: Any) -> None:
        super().__init__(**node)
        self.part, self.case = part, case

    def runtest(self) -> None:
        from lingspec.conformance import text
        from lingspec.conformance.contracts import contract
        from lingspec.conformance.engine import judge_supported

        run = self.config.stash[_RUN]
        of = contract(self.part.candidate.op)
        verdict = judge_supported(run.host, self.part.candidate, of, self.part.profile, self.case)
        if verdict.findings:
            options = run.options
            how = text.again(options.target, precision=options.precision, backward=options.backward)
            lines = [f"{verdict.status}  {self.name}"]
            for finding in verdict.findings:
                lines += text.failure(finding, how)
            raise NonConformance("\n".join(lines))
        if verdict.status == "NOT SUPPORTED":
            pytest.skip(f"NOT SUPPORTED: {verdict.reason}")
        if verdict.status != "PASS":
            raise NonConformance(f"{verdict.status}: {verdict.reason}: {verdict.case}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, NonConformance):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        return ROOT, None, self.name


class _Refused(pytest.Item):
    """What a worker of xdist has in the place of cases that it cannot collect."""

    def __init__(self, *, refusal: str, **node: Any) -> None:
        super().__init__(**node)
        self.refusal = refusal

    def runtest(self) -> None:
        pytest.fail(self.refusal, pytrace=False)
