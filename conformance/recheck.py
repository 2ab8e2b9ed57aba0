"""The end of a run: some cases once more, where what hangs on anything but the inputs shows.

A case that failed is asked in a fresh process, and one that passed is asked again after all the
others. Where a certificate may come of the run, one is also called as a script of the user's
would, in a process that holds nothing of this suite's.
"""

from __future__ import annotations

from collections.abc import Sequence

from lingspec.conformance.case import Case
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case, status_of
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.report import Options, PartReport
from lingspec.conformance.run import Part
from lingspec.conformance.runner.host import Host
from lingspec.conformance.runner.plain import call_plainly
from lingspec.conformance.session import Session, Stop

__all__ = ["recheck"]

FRESH = 2  # processes that must agree


def recheck(host: Host, reports: Sequence[PartReport], options: Options) -> None:
    """Add to the verdicts of ``reports``, which are in the order in which cases were asked."""
    for report in reports:
        if not report.part.candidate.deterministic or _any(report, "REJECTED"):
            continue
        _cold(host, report)
        if options.workers == 1:
            _late(host, report)
        if options.profile != "smoke" and not report.findings():
            _plainly(host, report, options)


def _cold(host: Host, report: PartReport) -> None:
    """A case with wrong values, in fresh processes: there it must be wrong as well."""
    wrong = [v for v in report.verdicts if v.status == "FAIL" and _of_values(v)]
    if not wrong or not _any(report, "PASS"):
        return
    if all(v.status == "PASS" for v in _fresh(host, report.part, wrong[-1])):
        text = "wrong after other calls, right in a fresh process: not of this call's inputs alone"
        _add(wrong[-1], text, "integrity", "REJECTED")


def _late(host: Host, report: PartReport) -> None:
    """A case that passed early, after all others: the bits of its results must be the same."""
    passed = [v for v in report.verdicts if v.status == "PASS" and v.bits]
    if not passed:
        return
    early = next((v for v in passed if v.killed), passed[0])  # whose results say something
    late = _judged(host, report.part, early)
    if late.status in ("CRASH", "TIMEOUT", "REJECTED"):
        early.findings += late.findings
        early.status = status_of(early.findings)
    elif late.bits and late.bits != early.bits:
        text = f"the same call gives other results as one of the last than as case {early.case}"
        if all(v.bits == early.bits for v in _fresh(host, report.part, early)):
            text += ", and those again in a fresh process: they depend on how often it was called"
            _add(early, text, "integrity", "REJECTED")
        else:
            _add(early, text, "determinism", "FAIL")


def _plainly(host: Host, report: PartReport, options: Options) -> None:
    """A case that passed here, where nothing of this suite is: there it must be right as well."""
    part, of = report.part, contract(report.part.candidate.op)
    passed = [v for v in report.verdicts if v.status == "PASS" and v.law == "authority"]
    # The one of which most wrong results were told from right ones.
    told = sorted(passed, key=lambda v: len(v.killed), reverse=True)
    near = (v for v in told if not of.make(of.parse(v.case)).far)
    if (verdict := next(near, None)) is None:
        return
    session = Session(host, part.candidate, of, part.profile, of.parse(verdict.case))
    got = call_plainly(host, part.candidate, of, session.call, options.timeout)
    if got is None:
        return
    try:
        for name, want in session.authority.items():
            if of.algebra.bits:
                exact = want.value.to(session.dtype_of(name))
                session.same_bits("integrity", got[name], exact, f"{name} has other bits", name)
            elif name in got:
                session.expect("integrity", got, {name: want})
    except Stop:
        return
    if session.findings:
        found = session.findings[0]
        text = f"right here, wrong where nothing tells of this suite: {found.text}"
        _add(verdict, text, "integrity", "REJECTED", found.where)


def _any(report: PartReport, status: str) -> bool:
    return any(v.status == status for v in report.verdicts)


def _of_values(verdict: Verdict) -> bool:
    """Whether this case alone is wrong, and not what it did to the one before."""
    return not any(f.law == "untouched" for f in verdict.findings)


def _fresh(host: Host, part: Part, verdict: Verdict) -> list[Verdict]:
    """The same case, each time in a process that has served nothing."""
    made = []
    for _ in range(FRESH):
        fresh = Host(host.server, host.target, host.op, precision=host.precision,
                     backward=host.backward, timeout=host.timeout)  # fmt: skip
        try:
            made.append(_judged(fresh, part, verdict))
        finally:
            fresh.close()
    return made


def _judged(host: Host, part: Part, verdict: Verdict) -> Verdict:
    of = contract(part.candidate.op)
    case: Case = of.parse(verdict.case)
    return judge_case(host, part.candidate, of, part.profile, case)


def _add(verdict: Verdict, text: str, law: str, status: str, where: str = "") -> None:
    verdict.findings.append(Finding(law, text, verdict.case, where, status=status))
    verdict.status = status_of(verdict.findings)
