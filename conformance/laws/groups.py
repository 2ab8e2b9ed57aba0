"""Groups are on their own: loud values in all others change nothing in one."""

from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import index_of
from lingspec.conformance.session import NothingToCheck, Session

SENTENCE = "a group does not see the others"
LOUD = 2.0**10  # what the other groups are multiplied by


def declared(contract: Contract) -> bool:
    """Ops with groups."""
    return contract.regions is not None


def check(session: Session) -> None:
    """One group as it was, the others loud: its results are as they were."""
    contract, call = session.contract, session.call
    assert contract.regions is not None
    regions = contract.regions(call)
    if len(regions) < 2:
        raise NothingToCheck("one group has no neighbours")
    session.expect("authority", session.run(), session.authority)
    for turn in range(min(2, len(regions))):
        region = regions[(session.case.seed + turn * (len(regions) // 2)) % len(regions)]
        got = session.run(_loud(contract, call, region))
        want, seen = {}, dict(got)
        for name, expected in session.authority.items():
            index = _index(contract, name, region)
            if index is not None:
                want[name], seen[name] = expected[index], got[name][index]
        where = ", ".join(f"{a} {s.start} to {s.stop - 1}" for a, s in region.items())
        session.expect("groups", seen, want, f"the group at {where} beside loud neighbours")


def _loud(contract: Contract, call: Call, region: dict[str, slice]) -> Call:
    changed: dict[str, Tensor] = {}
    for name, x in call.tensors.items():
        index = _index(contract, name, region)
        if index is not None and x.is_floating_point():
            louder = x * LOUD
            louder[index] = x[index]
            changed[name] = louder
    return call.with_tensors(**changed)


def _index(contract: Contract, name: str, region: dict[str, slice]) -> tuple[slice, ...] | None:
    """Where a tensor has the region; None if it lacks an axis of it."""
    places = {index_of(contract, name, letter): part for letter, part in region.items()}
    if None in places:
        return None
    last = max(axis for axis in places if axis is not None)
    return tuple(places.get(axis, slice(None)) for axis in range(last + 1))
