"""Same bits twice: after other contents in the same memory, and with other poison."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "the same call gives the same bits"


def declared(_: Contract) -> bool:
    """Every op; a candidate may declare itself not deterministic, and is then held to limits."""
    return True


def check(session: Session) -> None:
    """Call A, call B in the same storage, call A again with other poison."""
    contract, case = session.contract, session.case
    once = session.run()
    other = contract.make(case.with_(seed=case.seed ^ 0x7777))
    session.expect("determinism", session.run(other), session.judged(other),
                   "other contents in the same memory")  # fmt: skip
    again = session.run(poison="large")
    session.expect("authority", once, session.authority)
    if not session.candidate.deterministic:
        session.expect("determinism", again, session.authority, "the second time")
        return
    for name in once:
        text = f"the same call gives another {name} after another call, with other poison"
        session.same_bits("determinism", again[name], once[name], text, name)
