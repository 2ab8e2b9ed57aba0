"""Run the model again, and hold what comes out to a stored golden."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lingspec.golden.full_size import Outcome, full_size
from lingspec.golden.model_store import Stored

__all__ = ["MORE", "Difference", "differences", "recomputed"]

# How much further rounding to float32 may carry than an ulp of noise where layers meet: it rounds
# inside of layers too. float32 is at most 4.6 times that far from float64 in the models of
# data/official (tests/golden/test_official.py); two machines are each that far, independently.
MORE = 8.0
Done = Callable[[int, int], None]
SKETCHED = 2.0**-22  # the rounding of two sketches to float32, over the norm


@dataclass(frozen=True)
class Difference:
    """A tensor that did not come out as stored."""

    name: str
    apart: float
    limit: float
    row: int  # whose norm differs most

    def __str__(self) -> str:
        return (
            f"{self.name} is {self.apart:.2g} of its norm away from what is stored, limit "
            f"{self.limit:.2g}; most at token {self.row}"
        )


def differences(stored: Outcome, now: Outcome) -> list[Difference]:
    """Tensors of ``now`` that are not those that are stored, in their order."""
    found, noise = [], stored.noise["float32"]
    for name, kept in stored.summaries.items():
        if (got := now.summaries.get(name)) is None:
            continue
        limit, apart = MORE * noise[name] + SKETCHED, kept.apart(got)
        if kept.shape != got.shape or not apart <= limit:
            found.append(Difference(name, apart, limit, kept.worst_row(got)[0]))
    return found


def recomputed(
    stored: Sequence[Stored], *, layers: int | None = None, done: Done = lambda *_: None
) -> Iterator[tuple[Stored, list[Difference], int]]:
    """Each golden, what differs when its run is made again, and how many tensors were compared.

    One pass over the weights serves the goldens of one run, as it did when they were made.
    """
    for asked in dict.fromkeys(one.asked for one in stored):
        now = full_size(asked, layers=layers, done=done)
        for one in stored:
            if one.asked == asked:
                outcome = now[one.origin]
                yield one, differences(one.outcome, outcome), len(outcome.summaries)
