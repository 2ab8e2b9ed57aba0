"""Which cases a run asks: drawn from the contract's strategies by a seed, the same every time."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Contract

__all__ = ["COUNTS", "PROFILES", "draw", "plan", "shrink"]

PROFILES = ("smoke", "ci", "full")
# Cases per law and dtype. `authority` also carries the proof of power.
COUNTS = {
    "smoke": {"authority": 8, "default": 2},
    "ci": {"authority": 40, "default": 12},
    "full": {"authority": 400, "default": 120},
}


def plan(
    contract: Contract, laws: tuple[str, ...], dtype: str, cost: str, profile: str, seed: int
) -> list[Case]:
    """The cases of a run for one dtype, laws in order."""
    counts = COUNTS[profile]
    return [
        draw(contract, law, cost, dtype, seed, n)
        for law in laws
        for n in range(counts.get(law, counts["default"]))
    ]


def draw(contract: Contract, law: str, cost: str, dtype: str, seed: int, index: int) -> Case:
    """One case: the simplest at index 0, then random ones, each from a seed of its own.

    Hypothesis mutates what it has drawn; drawing each case afresh keeps them independent.
    """
    found: list[Case] = []
    _examples(
        contract,
        law,
        cost,
        dtype,
        _seed(seed, law, dtype, index),
        found.append,
        1 if index == 0 else 2,
    )
    return found[-1]


def shrink(
    contract: Contract, case: Case, cost: str, seed: int, index: int, fails: Callable[[Case], bool],
    *, tries: int = 60,
) -> Case:  # fmt: skip
    """The simplest case that Hypothesis finds for which ``fails``, starting from a drawn one."""
    best, left = case, tries
    known: dict[str, bool] = {str(case): True}

    def attempt(candidate: Case) -> None:
        nonlocal best, left
        name = str(candidate)
        if name not in known:
            if left <= 0:
                return
            left -= 1
            known[name] = fails(candidate)
        if known[name]:
            best = candidate
            raise _FailedError

    law = case.law or "authority"
    start = _seed(seed, law, case.dtype, index)
    try:
        _examples(contract, law, cost, case.dtype, start, attempt, 2, Phase.shrink)
    except BaseException as ended:
        if not _is_ours(ended):
            raise
    return best


class _FailedError(Exception):
    pass


def _is_ours(error: BaseException) -> bool:
    from hypothesis.errors import Flaky

    return isinstance(error, (_FailedError, Flaky))


def _seed(seed: int, law: str, dtype: str, index: int) -> int:
    return zlib.crc32(f"{seed}/{law}/{dtype}/{index}".encode())


def _examples(
    contract: Contract, law: str, cost: str, dtype: str, seed: int,
    body: Callable[[Case], None], count: int, *phases: Phase,
) -> None:  # fmt: skip
    @seeded(seed)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate, *phases],
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=False,
    )  # fmt: skip
    @given(contract.strategy(law, cost, dtype))
    def run(case: Case) -> None:
        body(case)

    run()
