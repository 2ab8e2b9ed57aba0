"""Same bits twice: after other contents in the same memory, with other poison, in another order."""

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.integrity import twin
from lingspec.conformance.laws.calls import other_ends
from lingspec.conformance.session import Session

SENTENCE = "the same call gives the same bits"


def declared(_: Contract) -> bool:
    """Every op; a candidate may declare itself not deterministic, and is then held to limits."""
    return True


def check(session: Session) -> None:
    """Call A, B in the same storage, a B that looks like A from afar, A again with other poison.

    B is in the same tensor objects too, as an engine writes to those that it keeps. And,
    where kernels are emulated, A with their programs from the last to the first: a GPU
    promises no order of programs.
    """
    contract, case = session.contract, session.case
    once = session.run()
    other = _as_told(contract.make(case.with_(seed=case.seed ^ 0x7777)), session.call)
    session.expect("determinism", session.run(other), session.judged(other),
                   "other contents in the same memory")  # fmt: skip
    alike = twin(session.call)
    if alike is not None and all(x.finite() for x in session.judged(alike).values()):
        text = "the same numbers in another order, in the same memory"
        session.expect("determinism", session.run(alike), session.judged(alike), text)
    ends = other_ends(contract, session.call)
    if ends is not None and all(x.finite() for x in session.judged(ends).values()):
        text = "the same tokens in sequences of other lengths"
        session.expect("determinism", session.run(ends), session.judged(ends), text)
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


def _as_told(other: Call, call: Call) -> Call:
    """The other call, its indices in the dtypes of the first: so that they lie where those lay."""
    given = call.tensors
    indices = (n for n, x in other.tensors.items() if n in given and not x.is_floating_point())
    return other.with_tensors(**{n: other.tensors[n].to(given[n].dtype) for n in indices})
