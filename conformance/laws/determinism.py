"""Same bits twice: after other contents in the same memory, with other poison, in another order."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.integrity import twin
from lingspec.conformance.session import Session

SENTENCE = "the same call gives the same bits"


def declared(_: Contract) -> bool:
    """Every op; a candidate may declare itself not deterministic, and is then held to limits."""
    return True


def check(session: Session) -> None:
    """Call A, B in the same storage, a B that looks like A from afar, A again with other poison.

    And, where kernels are emulated, A with their programs from the last to the first: a GPU
    promises no order of programs.
    """
    contract, case = session.contract, session.case
    once = session.run()
    other = contract.make(case.with_(seed=case.seed ^ 0x7777))
    session.expect("determinism", session.run(other), session.judged(other),
                   "other contents in the same memory")  # fmt: skip
    alike = twin(session.call)
    if alike is not None and all(x.finite() for x in session.judged(alike).values()):
        text = "the same numbers in another order, in the same memory"
        session.expect("determinism", session.run(alike), session.judged(alike), text)
    again = {"after another call, with other poison": session.run(poison="large")}
    if session.host.launches:
        again["where programs run from the last to the first"] = session.run(backward=True)
    session.expect("authority", once, session.authority)
    for when, results in again.items():
        if not session.candidate.deterministic:
            session.expect("determinism", results, session.authority, when)
            continue
        for name in once:
            text = f"the same call gives another {name} {when}"
            session.same_bits("determinism", results[name], once[name], text, name)
