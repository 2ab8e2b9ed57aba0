"""Which cases a run asks: drawn from the contract by a seed, the same everywhere."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from lingspec.conformance import regimes
from lingspec.conformance.case import Case
from lingspec.conformance.contract import Contract

T = TypeVar("T")

__all__ = ["COUNTS", "PROFILES", "draw", "plan", "shrink"]

PROFILES = ("smoke", "ci", "full")
# Cases per law and dtype. `authority` also carries the proof of power.
COUNTS = {
    "smoke": {"authority": 8, "scale": 1, "default": 2},
    "ci": {
        "authority": 40, "gradients": 24, "bias": 6, "sequences": 6, "scale": 6, "default": 12,
    },
    "full": {
        "authority": 400, "gradients": 240, "bias": 60, "sequences": 60, "scale": 60,
        "default": 120,
    },
}  # fmt: skip


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
    """One case: the simplest at index 0, then random ones, each from a seed of its own."""
    turn = _turn(law, dtype, seed, index)
    return _drawn(contract, _picks(law, dtype, seed, index), law, cost, dtype, turn)


def _turn(law: str, dtype: str, seed: int, index: int) -> tuple[int, int]:
    """Which case of a law it is, and the regime that comes first.

    The first cases, all that a smoke test asks, are of usual sizes: they must prove its power.
    """
    few = COUNTS["smoke"].get(law, COUNTS["smoke"]["default"])
    first = _random(seed, law, dtype, "regime").randrange(1 << 16)
    return (index if index >= few else 0), first


def _drawn(
    contract: Contract, picks: _Picks, law: str, cost: str, dtype: str,
    turn: tuple[int, int] = (0, 0),
) -> Case:  # fmt: skip
    """A case of the contract; every so many moved into a regime, each of them in turn."""
    case = _batched(contract.draw(picks, law, cost, dtype))
    found, often = regimes.of(contract, case, cost), regimes.often(law)
    if not found or picks.turn(range(often), turn[0]) != often - 1:
        return case
    regime = picks.turn(found, turn[0] // often + turn[1])
    return _batched(regimes.moved(contract, case, regime, cost, picks))


def _batched(case: Case) -> Case:
    """A case about strides has two rows of a batch at least: between them is a stride."""
    alone = case.law == "strides" and case.axes.get("B") == 1 and "P" not in case.axes
    return case.with_(axes={**case.axes, "B": 2}) if alone else case


def shrink(
    contract: Contract, case: Case, cost: str, seed: int, index: int, fails: Callable[[Case], bool],
    *, tries: int = 60,
) -> Case:  # fmt: skip
    """A simpler case for which ``fails``: every pick as near to its first option as it can be.

    ``seed`` and ``index`` are those that ``case`` was drawn with; ``tries`` bounds the calls.
    """
    law = case.law or "authority"
    picks = _picks(law, case.dtype, seed, index)
    turn = _turn(law, case.dtype, seed, index)
    best, chosen = _drawn(contract, picks, law, cost, case.dtype, turn), picks.chosen
    if best != case:
        return case
    known = {str(case)}
    improved = True
    while improved and tries > 0:
        improved = False
        for told in _simpler(chosen):
            again = _Picks(None, told)
            simpler = _drawn(contract, again, law, cost, case.dtype)
            if str(simpler) in known or tries <= 0:
                continue
            known.add(str(simpler))
            tries -= 1
            if fails(simpler):
                best, chosen, improved = simpler, again.chosen, True
                break
    return best


def _simpler(chosen: list[int]) -> Iterator[list[int]]:
    """One choice lower, and what comes after it as simple as can be, or as it was."""
    for place, index in enumerate(chosen):
        for lower in _lower(index):
            yield [*chosen[:place], lower]
            yield [*chosen[:place], lower, *chosen[place + 1 :]]


def _lower(index: int) -> list[int]:
    """Nearer to the first option, boldest first."""
    return sorted({0, index // 2, index - 1} - {index, -1})


class _Picks:
    """Chooses what it was told, then what ``share`` says, and remembers what it chose.

    ``share`` gives, for the n-th choice, a number from 0 to 1; without it, the first option is
    chosen.
    """

    def __init__(self, share: Callable[[int], float] | None, told: Sequence[int] = ()) -> None:
        self.share, self.told = share, told
        self.chosen: list[int] = []

    def __call__(self, options: Sequence[T], /) -> T:
        place = len(self.chosen)
        if place < len(self.told):
            index = min(self.told[place], len(options) - 1)
        else:
            index = int(self.share(place) * len(options)) if self.share else 0
        self.chosen.append(index)
        return options[index]

    def turn(self, options: Sequence[T], n: int) -> T:
        """The ``n``-th, counted around, unless it was told another."""
        place = len(self.chosen)
        index = self.told[place] if place < len(self.told) else n if self.share else 0
        self.chosen.append(index % len(options))
        return options[index % len(options)]


STRATA = 12  # cases in a row of which every choice takes each twelfth of its options once


def _picks(law: str, dtype: str, seed: int, index: int) -> _Picks:
    """A Latin hypercube sample: few cases see all of every choice, in random combinations."""
    if index == 0:
        return _Picks(None)
    block, at = divmod(index - 1, STRATA)

    def share(place: int) -> float:
        strata = _random(seed, law, dtype, "block", block, place).sample(range(STRATA), STRATA)
        return (strata[at] + _random(seed, law, dtype, index, place).random()) / STRATA

    return _Picks(share)


def _random(*key: object) -> random.Random:
    return random.Random(zlib.crc32("/".join(map(str, key)).encode()))
