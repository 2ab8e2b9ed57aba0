"""A history of calls: requests are admitted, go on, fork, are evicted, and others take their place.

Every call is held to its own authority, given what the candidate itself left behind; a call that
was made before gives the same again, whatever came between.
"""

import torch

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract, Machine
from lingspec.conformance.session import NothingToCheck, Session
from lingspec.conformance.values import rng

SENTENCE = "a history of requests leaves nothing behind"


def declared(contract: Contract) -> bool:
    """Ops with a state that outlives a call."""
    return contract.machine is not None


def check(session: Session) -> None:
    """As many steps as the case's cut says, each drawn from what can happen; one call again."""
    assert session.contract.machine is not None
    machine = session.contract.machine(session.case)
    first, calls = None, 0
    for n in range(1 + session.case.cut):
        g = rng(session.case.seed, f"step {n}")
        told, call = _step(machine, g)
        if call is None:
            continue
        calls += 1
        results, want = session.run(call), session.judged(call)
        if not session.expect("sequences", results, want, f"step {n}, {told}"):
            return
        machine.took(session.carried(results, want))
        first = first or (told, call, results)
    if first is None:
        raise NothingToCheck("nothing was called")
    told, call, before = first
    _again(session, f"{told}, again after {calls} calls", call, before)


def _step(machine: Machine, g: torch.Generator) -> tuple[str, Call | None]:
    rules = machine.rules()
    return machine.step(rules[int(torch.randint(0, len(rules), (1,), generator=g))], g)


def _again(session: Session, text: str, call: Call, before: dict[str, torch.Tensor]) -> None:
    again = session.run(call)
    session.expect("sequences", again, session.judged(call), text)
    if session.candidate.deterministic:
        for name, was in before.items():
            session.same_bits("sequences", again[name], was, text, name)
