"""Future-token independence: other finite values in the future change no bit of the past."""

from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import along, horizon, index_of, other_values, size_of
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "no result depends on a later token"


def declared(contract: Contract) -> bool:
    """Ops with a causal axis."""
    return contract.algebra.causal is not None


def check(session: Session) -> None:
    """Two calls of equal shapes that differ after the cut."""
    contract, case = session.contract, session.case
    letter = contract.algebra.causal
    assert letter is not None
    tokens, names = size_of(contract, session.call, letter), contract.returned(session.call)
    if tokens < 2 or not any(session.authority[n].value.numel() for n in names):
        raise NothingToCheck("no token comes after another")
    last = case.cut % (tokens - 1)
    other = contract.make(case.with_(seed=case.seed ^ 0x5A5A))
    seen = horizon(contract, session.call, last)
    changed = other_values(session.call, other, contract, seen)
    before, after = session.run(), session.run(changed)
    session.expect("authority", before, session.authority)
    for name in names:
        axis = index_of(contract, name, letter)
        if axis is None:
            continue
        past = slice(0, last + 1)
        text = f"changing tokens after {last} changes {name} at or before it"
        if session.candidate.deterministic and contract.algebra.bitwise:
            a, b = (along(x[name], axis, past) for x in (after, before))
            session.same_bits("causality", a, b, text, name)
        else:
            want = session.authority[name][(slice(None),) * axis + (past,)]
            got = {name: along(after[name], axis, past)}
            session.expect("causality", got, {name: want}, text)
