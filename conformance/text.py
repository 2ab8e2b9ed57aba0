"""What a run prints for people: verdicts first, then the first cause of each failure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

from lingspec.conformance.findings import Finding
from lingspec.conformance.laws import sentence
from lingspec.conformance.report import FAILURES, Options, PartReport, Report
from lingspec.conformance.waivers import Waiver

__all__ = ["again", "counted", "failure", "lines"]


def counted(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def lines(report: Report) -> Iterator[str]:
    """The report, a line at a time."""
    for part in report.parts:
        yield _headline(report, part)
        yield from _laws(part)
        first = part.first()
        if first is not None:
            options = report.options
            how = again(options.target, precision=options.precision, backward=options.backward)
            yield from failure(
                part.smallest or first, how, part.looks_like, shrunk=part.smallest is not None,
                run=_whole(options, report.seed),
            )  # fmt: skip
            others = Counter(f.law for f in part.findings())
            rest = ", ".join(f"{name} {n}" for name, n in others.items())
            yield f"  findings  {rest}"
        yield from _waived(part)
        yield from _untold(part, report.options.profile)
        if part.status(report.options.profile) == "VOID":
            yield from _inconclusive(part, report.options.profile)
    yield from report.problems()


def _inconclusive(part: PartReport, profile: str) -> Iterator[str]:
    for name in part.unproven(profile):
        kills = part.power().get(name, 0)
        yield f"  unproven  {name!r} was rejected by {kills} cases only: no verdict"
    for law in part.idle():
        yield f"  unproven  law {law} was VOID in every case that was asked: no verdict"


def _waived(part: PartReport) -> Iterator[str]:
    cases: dict[Waiver, list[str]] = {}
    for finding, waiver in part.waived():
        cases.setdefault(waiver, []).append(finding.case)
    for waiver, found in cases.items():
        where = f"{counted(len(found), 'finding')} in {counted(len(set(found)), 'case')}"
        yield f"  waived    {where}: {waiver}"


def _untold(part: PartReport, profile: str) -> Iterator[str]:
    for name in part.untold(profile):
        kills = part.power()[name]
        yield f"  not told apart  {name!r} was rejected by {kills} cases; a coarser one by enough"


def again(
    target: str | None, *, precision: str | None = None, backward: bool = False,
    device: str | None = None, timeout: float | None = None,
) -> str:  # fmt: skip
    """What `lingspec replay` must be given, besides a case, to ask the same of a target."""
    words = ["--target", target] if target else []
    words += ["--precision", precision] if precision else []
    words += ["--device", device] if device else []
    words += ["--timeout", f"{timeout:g}"] if timeout else []
    return shlex.join(words + (["--backward"] if backward else []))


def _whole(options: Options, seed: int) -> str:
    """The command that repeats a run."""
    how = again(None, precision=options.precision, backward=options.backward)
    words = ["lingspec certify", shlex.quote(options.target), f"--profile {options.profile}"]
    words += [f"--op {op}" for op in options.ops] + [f"--law {law}" for law in options.laws]
    return " ".join([*words, f"--seed {seed}", how]).rstrip()


def failure(
    finding: Finding, how: str, looks_like: str = "", *, shrunk: bool = False, bundle: str = "",
    run: str = "",
) -> Iterator[str]:  # fmt: skip
    """One finding: law, where, how far, what it looks like, how to see it again.

    ``how`` is what `again` says; ``shrunk`` whether smaller cases were looked for; ``bundle`` the
    file to replay where the values are not those that the case makes; ``run`` the command of the
    whole run, for what one case alone need not show.
    """
    shrunk = shrunk and finding.law != "integrity"
    yield f"  law       {sentence(finding.law)}: {finding.text}"
    if finding.where:
        yield f"  where     {finding.where}"
    if finding.got_want:
        yield f"  got/want  {finding.got_want}"
    if looks_like:
        yield f"  looks like  {looks_like}"
    yield f"  {'smallest' if shrunk else 'case':<10}{finding.case}"
    what = shlex.quote(bundle) if bundle else finding.case
    one = " ".join(["lingspec replay", what, how]).rstrip()
    yield f"  replay    {run if run and finding.law == 'integrity' else one}"
    if finding.trace:
        last = finding.trace.strip().splitlines()[-6:]
        yield "  trace     " + "\n            ".join(last)


def _headline(report: Report, part: PartReport) -> str:
    status = part.status(report.options.profile)
    total = sum(1 for v in part.verdicts if v.status not in ("NOT SUPPORTED",))
    bad = sum(1 for v in part.verdicts if part.status_of(v) in FAILURES)
    name = report.options.target
    if part.part.candidate.name not in (part.op, name.partition(":")[2]):
        name += f" · {part.part.candidate.name}"
    device = report.device_of(part)
    head = f"{part.op} · {name} · {part.part.dtype} · {part.part.profile.name} · {device}"
    waived = sum(1 for v in part.verdicts if part.status_of(v) == "WAIVED")
    broken = status in ("FAIL", "REJECTED")
    said = f"{status} {bad} of {total}" if broken else f"{status} {total - waived}"
    said += f", WAIVED {waived}" if waived else ""
    worst = part.worst
    return f"{head}  {said}" + (
        f", worst error {worst:.2g} of its limit" if status == "PASS" else ""
    )


def _laws(part: PartReport) -> Iterator[str]:
    for name, counts in part.laws().items():
        words = [f"{status} {n}" for status, n in sorted(counts.items())]
        words += [f"not asked {n}"] if (n := part.left_out[name]) else []
        if not words:
            continue
        of = [v for v in part.verdicts if v.law == name]
        reasons = {v.reason for v in of if v.status in ("NOT SUPPORTED", "VOID")}
        reasons |= {v.refusal for v in of if v.instead}
        why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        yield f"    {name:<12} {', '.join(words)}{why}"
