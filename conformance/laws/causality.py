"""Future-token independence: other finite values in the future change no bit of the past."""

from torch import Tensor

from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import along, horizon, index_of, other_values, size_of
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "no result depends on a later token"
# What an algorithm is chosen by (a sum, a maximum, a count) often is on the same side of two
# futures: several are tried, each from the seed of the case with these bits flipped.
FUTURES = (0x5A5A, 0xA5A5, 0x3C3C)


def declared(contract: Contract) -> bool:
    """Ops with a causal axis."""
    return contract.algebra.causal is not None


def check(session: Session) -> None:
    """Calls of equal shapes that differ after the cut."""
    contract, case = session.contract, session.case
    letter = contract.algebra.causal
    assert letter is not None
    tokens, names = size_of(contract, session.call, letter), contract.returned(session.call)
    if tokens < 2 or not any(session.authority[n].value.numel() for n in names):
        raise NothingToCheck("no token comes after another")
    last = case.cut % (tokens - 1)
    seen = horizon(contract, session.call, last)
    before = session.run()
    session.expect("authority", before, session.authority)
    axes = {name: index_of(contract, name, letter) for name in names}
    for turn in FUTURES:
        other = contract.make(case.with_(seed=case.seed ^ turn))
        after = session.run(other_values(session.call, other, contract, seen))
        told = [
            _same_past(session, name, axis, last, before, after)
            for name, axis in axes.items() if axis is not None
        ]  # fmt: skip
        if not all(told):
            return


def _same_past(
    session: Session, name: str, axis: int, last: int, before: dict[str, Tensor],
    after: dict[str, Tensor],
) -> bool:  # fmt: skip
    past = slice(0, last + 1)
    text = f"changing tokens after {last} changes {name} at or before it"
    if session.candidate.deterministic and session.contract.algebra.bitwise:
        a, b = (along(x[name], axis, past) for x in (after, before))
        return session.same_bits("causality", a, b, text, name)
    want = session.authority[name][(slice(None),) * axis + (past,)]
    return session.expect("causality", {name: along(after[name], axis, past)}, {name: want}, text)
