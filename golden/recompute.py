"""Run the model again, and hold what comes out to a stored golden."""

from __future__ import annotations

import math
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
    row: int = 0  # whose norm differs most
    what: str = "of its norm away from what is stored"

    def __str__(self) -> str:
        said = f"{self.name} is {self.apart:.2g} {self.what}, limit {self.limit:.2g}"
        return f"{said}; most at row {self.row}"


def differences(stored: Outcome, now: Outcome, *, layers: int | None = None) -> list[Difference]:
    """Tensors of ``now`` that are not those that are stored, in their order.

    What is stored and is not in ``now`` differs too, but for what lies behind ``layers``.
    """
    found, noise = [], stored.noise["float32"]
    for name, kept in stored.summaries.items():
        limit = MORE * noise[name] + SKETCHED
        if (got := now.summaries.get(name)) is None:
            if not _behind(name, layers):
                found.append(Difference(name, math.inf, limit, what="away: it did not come out"))
            continue
        apart = kept.apart(got)
        if kept.shape != got.shape or not apart <= limit:
            found.append(Difference(name, apart, limit, kept.worst_row(got)[0]))
    return [*found, *_routing(stored, now, layers), *_logits(stored, now)]


def _routing(stored: Outcome, now: Outcome, layers: int | None) -> Iterator[Difference]:
    """Tokens may go elsewhere where the disturbed run's did too, as many of them."""
    for name, kept in stored.routing.items():
        got, limit = now.routing.get(name), stored.noise["float32"][name]
        if got is None or got.shape != kept.shape:
            if not _behind(name, layers):
                yield Difference(name, 1.0, limit, what="of the tokens: no routing came out")
            continue
        moved = (got.sort(-1).values != kept.sort(-1).values).any(-1).flatten()
        share = float(moved.double().mean())
        if share > limit:
            what = "of the tokens sent to other experts"
            yield Difference(name, share, limit, int(moved.nonzero()[0]), what)


def _logits(stored: Outcome, now: Outcome) -> Iterator[Difference]:
    """Those of the last token, in full."""
    if stored.logits is None or now.logits is None:
        return
    far = (now.logits.double() - stored.logits.double()).norm() / stored.logits.double().norm()
    limit = MORE * stored.noise["float32"]["logits"]
    if not float(far) <= limit:
        yield Difference("logits of the last token", float(far), limit)


def _behind(name: str, layers: int | None) -> bool:
    """Whether a tensor comes only after so many layers."""
    if layers is None:
        return False
    number = name.partition(".")[2].partition(".")[0]  # layers.N.… and cache.N.…
    return int(number) >= layers if number.isdigit() else name != "embeddings"


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
                found = differences(one.outcome, outcome, layers=layers)
                yield one, found, len(outcome.summaries)
