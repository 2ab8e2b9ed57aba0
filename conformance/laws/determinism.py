"""Same bits twice: after other contents in the same memory, and with other poison."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.integrity import twin
from lingspec.conformance.session import Session

SENTENCE = "the same call gives the same bits"


def declared(_: Contract) -> bool:
    """Every op; a candidate may declare itself not deterministic, and is then held to limits."""
    return True


def check(session: Session) -> None:
    """Call A, B in the same storage, a B that looks like A from afar, A again with other poison."""
    contract, case = session.contract, session.case
    once = session.run()
    other = contract.make(case.with_(seed=case.seed ^ 0x7777))
    session.expect("determinism", session.run(other), session.judged(other),
                   "other contents in the same memory")  # fmt: skip
    alike = twin(session.call)
    if alike is not None and all(x.finite() for x in session.judged(alike).values()):
        text = "the same numbers in another order, in the same memory"
        session.expect("determinism", session.run(alike), session.judged(alike), text)
    again = session.run(poison="large")
    session.expect("authority", once, session.authority)
    if not session.candidate.deterministic:
        session.expect("determinism", again, session.authority, "the second time")
        return
    for name in once:
        text = f"the same call gives another {name} after another call, with other poison"
        session.same_bits("determinism", again[name], once[name], text, name)
