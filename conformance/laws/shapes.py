"""A call of other shapes, and of another dtype, in between changes nothing."""

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Contract
from lingspec.conformance.plan import draw
from lingspec.conformance.run import parts
from lingspec.conformance.session import Session, Stop

SENTENCE = "calls of other shapes and dtypes in between change nothing"
TRIES = 8  # draws until a case of other shapes is found that can be judged


def declared(contract: Contract) -> bool:
    """Every op."""
    return not contract.algebra.bits


def check(session: Session) -> None:
    """The call, one of other shapes, one of the other dtypes of the candidate, the call again."""
    once = session.run()
    session.expect("authority", once, session.authority)
    _between(session, session.case.dtype)
    told = parts(session.candidate, session.contract, session.host.precision)
    others = [p.dtype for p in told]
    others = [d for d in others if d != session.case.dtype]
    if others:
        _between(session, others[session.case.seed % len(others)])
    again = session.run()
    session.expect("shapes", again, session.authority, "after a call of other shapes")
    if session.candidate.deterministic:
        for name in once:
            text = f"a call of other shapes in between changes {name}"
            session.same_bits("shapes", again[name], once[name], text, name)


def _between(session: Session, dtype: str) -> None:
    """Another case of the op, held to its own authority."""
    contract, candidate = session.contract, session.candidate
    told = parts(candidate, contract, session.host.precision)
    part = next(p for p in told if p.dtype == dtype)
    for index in range(1, TRIES + 1):
        case: Case = draw(contract, "authority", candidate.cost, dtype, session.case.seed, index)
        if case.axes == session.case.axes:
            continue
        other = session.beside(case, part.profile)
        if other is None:
            continue
        stopped: Stop | None = None
        try:
            other.expect("shapes", other.run(), other.authority, "a call of other shapes")
        except Stop as stop:
            stopped = stop
        if other.findings and dtype != session.case.dtype and not other.right_alone():
            session.run()  # in the process that is new
            continue  # what is wrong without other calls, the cases of that dtype say
        session.findings += other.findings
        if stopped and not other.findings:
            continue
        if stopped:
            raise stopped
        return
