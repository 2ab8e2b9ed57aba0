"""One case in, one verdict out."""

from __future__ import annotations

import time

from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Contract
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.laws import exact
from lingspec.conformance.laws import law as law_of
from lingspec.conformance.proof import proof
from lingspec.conformance.runner.host import CandidateInfo, Host
from lingspec.conformance.session import Memo, NothingToCheck, Refused, Session, Stop
from lingspec.conformance.standins import stand_ins

__all__ = ["judge_case", "judge_supported", "status_of"]

ATTEMPTS = 4  # of stand-ins that are supported, but whose law makes a call that is not, or is idle


def judge_supported(
    host: Host, candidate: CandidateInfo, contract: Contract, profile: Profile, case: Case,
    *, power: bool = False,
) -> Verdict:  # fmt: skip
    """`judge_case`, or of a case like it where the candidate does not support this one."""
    planned = judge_case(host, candidate, contract, profile, case, power=power)
    if planned.status != "NOT SUPPORTED" or _refused_by_law(candidate, case):
        return planned
    attempts = 0
    for other in stand_ins(contract, case, candidate.cost):
        session = Session(host, candidate, contract, profile, other)
        if session.supported(session.call) is not True:
            continue
        found = judge_case(host, candidate, contract, profile, other, power=power)
        attempts += 1
        if found.status not in ("NOT SUPPORTED", "VOID"):
            found.instead, found.refusal = planned.case, planned.reason
            return found
        if attempts == ATTEMPTS:
            break
    return planned


def judge_case(
    host: Host, candidate: CandidateInfo, contract: Contract, profile: Profile, case: Case,
    *, call: Call | None = None, power: bool = False, memo: Memo | None = None,
    kind: type[Session] = Session,
) -> Verdict:  # fmt: skip
    """Check the law of ``case``, on ``call`` if it is not the case's own.

    ``power`` also asks which degenerate results this case rejects. ``memo`` keeps what the case
    must give from one candidate to the next; ``kind`` is how the candidate is called.
    """
    began, launched = time.monotonic(), host.launches
    law = law_of(case.law or "authority")
    session = kind(host, candidate, contract, profile, case, memo)
    if call is not None:
        session.call = call
    refusal = _refused(session)
    if refusal:
        return Verdict(str(case), law.name, "NOT SUPPORTED", reason=refusal)
    verdict = Verdict(str(case), law.name, "PASS")
    try:
        if law.whole and not contract.algebra.bits and not _judgeable(session):
            verdict.status, verdict.reason = (
                "VOID",
                "a value or a limit is beyond what the format holds",
            )
            return verdict
        law.check(session)
    except NothingToCheck as why:
        verdict.status, verdict.reason = "VOID", f"nothing to check: {why}"
    except Refused as why:
        verdict.status, verdict.reason = "NOT SUPPORTED", str(why)
    except Stop:
        pass
    session.settle()
    verdict.bits = session.bits
    verdict.findings, verdict.worst = session.findings, session.worst
    if session.findings:
        verdict.status, verdict.reason = status_of(session.findings), ""
    if power and verdict.status == "PASS" and not contract.algebra.bits:
        verdict.killed, verdict.applicable = proof(
            contract, session.call, profile, case.torch_dtype, session.authority,
            lambda: session.variants,
        )  # fmt: skip
    verdict.seconds, verdict.launches = time.monotonic() - began, host.launches - launched
    return verdict


def _refused_by_law(candidate: CandidateInfo, case: Case) -> str:
    """Why a candidate is not asked a law at all."""
    without = case.law == "gradients" and not candidate.backward
    return "no gradients: backward=False" if without else ""


def _refused(session: Session) -> str | None:
    if why := _refused_by_law(session.candidate, session.case):
        return why
    answer = session.supported(session.call)
    return None if answer is True else str(answer)


def _judgeable(session: Session) -> bool:
    """Whether every result has a limit, or is compared bit for bit."""
    beyond = {name for name, want in session.authority.items() if not want.finite()}
    return not beyond or (session.case.law == "exact" and beyond <= exact.results(session))


def status_of(findings: list[Finding]) -> str:
    """What a case comes to with these findings: the word that weighs most."""
    for status in ("REJECTED", "CRASH", "TIMEOUT", "FAIL"):
        if any(f.status == status for f in findings):
            return status
    return "PASS"
