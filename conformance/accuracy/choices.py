"""Discrete results: which choices are right, and what follows from the one that was made.

A chosen member may differ from the authority's only where the authority's own margin is inside the
error bound. Results that depend on the choice are held to what it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy import functions
from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.accuracy.running import Running, analysing
from lingspec.conformance.accuracy.verdict import Problem, short

__all__ = ["Following", "Routed", "routed", "scored"]


@dataclass(frozen=True)
class Routed:
    """The experts of each token: any set that errors inside the bounds may lead to.

    ``scores`` and ``bounds`` are the biased scores (T, E) and how far they may be off; ``groups``
    the group scores (T, G) and theirs. Rows of ``free`` are not finite: any ids in range.
    """

    name: str
    value: Tensor  # (T, k) the authority's choice, as float64
    scores: Tensor
    bounds: Tensor
    group_scores: Tensor
    group_bounds: Tensor
    free: Tensor  # (T,) bool
    top_groups: int
    coherent: bool = True

    def __getitem__(self, index: Any) -> Routed:
        """The rows ``index``."""
        index = index[0] if isinstance(index, tuple) else index
        return replace(
            self, value=self.value[index], scores=self.scores[index], bounds=self.bounds[index],
            group_scores=self.group_scores[index], group_bounds=self.group_bounds[index],
            free=self.free[index],
        )  # fmt: skip

    def finite(self) -> bool:
        """A choice can always be judged."""
        return True

    def problem(
        self, got: Tensor, dtype: torch.dtype, _variants: Sequence[Tensor] = (),
        _results: Mapping[str, Tensor] | None = None,
    ) -> Problem | None:  # fmt: skip
        """The first token whose experts no permitted error explains."""
        if got.dtype != dtype:
            return Problem(
                "dtype", f"{self.name} has dtype {short(got.dtype)}, but must have {short(dtype)}"
            )
        if got.shape != self.value.shape:
            shape, right = tuple(got.shape), tuple(self.value.shape)
            return Problem("shape", f"{self.name} has shape {shape}, but must have {right}")
        E = self.scores.shape[1]
        # the authority's own choice needs no error to explain it
        other = (got.double().sort(dim=-1).values != self.value.sort(dim=-1).values).any(dim=-1)
        for t in other.nonzero().flatten().tolist():
            chosen = got[t].tolist()
            text = self._fault(t, chosen, E)
            if text:
                want = [int(e) for e in self.value[t]]
                return Problem(
                    "choice", f"{self.name} of token {t} {text}", f"{self.name}[{t}]",
                    got_want=f"[{t}] {sorted(chosen)} / {sorted(want)}",
                )  # fmt: skip
        return None

    def _fault(self, t: int, chosen: list[int], E: int) -> str:
        if not all(0 <= e < E for e in chosen):
            return f"are not ids of {E} experts"
        if len(set(chosen)) != len(chosen):
            return "hold an expert twice"
        if bool(self.free[t]):
            return ""
        return self._unexplained(t, chosen)

    def _unexplained(self, t: int, chosen: list[int]) -> str:
        """Why no permitted errors lead to ``chosen``; "" if some do.

        There must be a set of groups that holds all chosen experts, and no better one that was
        left out, such that no group outside surely beats one inside: with ``edge`` the best that
        a group outside surely has, all above it are in, and none that cannot reach it.
        """
        size = self.scores.shape[1] // self.group_scores.shape[1]
        upper = (self.group_scores + self.group_bounds)[t]
        lower = (self.group_scores - self.group_bounds)[t]
        weakest = (self.scores + self.bounds)[t, chosen].min()
        left = (self.scores - self.bounds)[t].clone()
        left[chosen] = -torch.inf
        strong = left.view(-1, size).amax(dim=1) > weakest  # groups with a better one left out
        needed = torch.zeros_like(strong)
        needed[[e // size for e in chosen]] = True
        if bool((strong & needed).any()):
            e = int(left.view(-1, size).masked_fill(~needed[:, None], -torch.inf).argmax())
            return f"leave out expert {e}, which is surely better than one of them"
        for edge in (*lower.tolist(), -torch.inf):
            must, may = (lower > edge) | needed, (upper >= edge) & ~strong
            if bool((must <= may).all()) and int(must.sum()) <= self.top_groups <= int(may.sum()):
                return ""
        return f"are not the best of {self.top_groups} groups that errors could have made the best"

    def worst(self, got: Tensor, results: Mapping[str, Tensor] | None = None) -> float:
        """0 for a permitted choice, else infinite."""
        wrong = self.problem(got, got.dtype, (), results) is not None
        return torch.inf if wrong else 0.0

    typical = worst

    def signal(self) -> bool:
        """Whether there is a token whose experts are certain."""
        return self.value.numel() > 0

    def described(self) -> dict[str, Any]:
        """How many tokens have a choice."""
        return {
            "shape": list(self.value.shape), "near ties": f"{int(self.undecided().sum())} tokens",
            "from": "the margins of the authority's scores",
        }  # fmt: skip

    def undecided(self) -> Tensor:
        """(T,) bool: tokens for which more than one set of experts is permitted."""
        best = self.group_scores.topk(self.top_groups, dim=-1).indices
        inside = torch.zeros_like(self.group_scores, dtype=torch.bool).scatter(1, best, value=True)
        groups = _close(self.group_scores, self.group_bounds, inside)
        size = self.scores.shape[1] // self.group_scores.shape[1]
        within = inside.repeat_interleave(size, dim=1)
        chosen = torch.zeros_like(within).scatter(1, self.value.long(), value=True)
        left = self.scores.masked_fill(~within, -torch.inf)
        return groups | _close(left, self.bounds, chosen)


def _close(scores: Tensor, bounds: Tensor, chosen: Tensor) -> Tensor:
    """Rows in which something that is not chosen may reach something that is."""
    if not scores.shape[1]:
        return chosen.new_zeros(chosen.shape[0])
    weakest = (scores - bounds).masked_fill(~chosen, torch.inf).amin(dim=1)
    strongest = (scores + bounds).masked_fill(chosen, -torch.inf).amax(dim=1)
    return strongest >= weakest


def scored(logits: Running, bias: Running) -> tuple[Running, Running]:
    """Scores of experts, and the same with their bias: an implementation may store either."""
    store = analysing(logits.profile)
    scores = store("score", functions.sigmoid(logits))
    return scores, store("score", scores + bias)


def routed(
    biased: Running, experts: Tensor, free: Tensor, *, groups: int, top_groups: int,
    likely: bool = False,
) -> Routed:  # fmt: skip
    """What errors of the biased scores (T, E) permit beside the authority's own ``experts``.

    With ``likely`` the errors are those that independent roundings do not exceed.
    """
    T, E = biased.shape
    shape = (T, groups, E // groups)
    pairs = biased.value.reshape(*shape).topk(2, dim=-1).values
    bounds = biased.at_most() - biased.magnitude
    if likely:
        bounds = torch.minimum(bounds, biased.likely() - biased.size)
    most = bounds.reshape(*shape).amax(dim=-1)
    u = biased.profile.arithmetic.u
    return Routed(
        "experts", experts.double(), biased.value, bounds, pairs.sum(dim=-1),
        2 * most + u * (pairs.abs().sum(dim=-1) + 2 * most), free, top_groups,
    )  # fmt: skip


@dataclass(frozen=True)
class Following:
    """Numbers that depend on a choice among the candidate's other results.

    ``given`` computes their limits from that result; ``limits`` are those of the authority's own
    choice. Where the choice is not one that can be made, nothing is said: it is refused itself.
    Nor is anything said of rows that are not ``asked``.
    """

    limits: Limits
    choice: str
    given: Callable[[Tensor], Limits | None]
    asked: Tensor  # (rows,) bool

    @property
    def name(self) -> str:
        """The result's name."""
        return self.limits.name

    @property
    def value(self) -> Tensor:
        """What the authority gives, for its own choice."""
        return self.limits.value

    @property
    def coherent(self) -> bool:
        """Whether equal inputs repeat."""
        return self.limits.coherent

    def __getitem__(self, index: Any) -> Following:
        """The rows ``index``; the choice is then of these rows only."""
        rows = index[0] if isinstance(index, tuple) else index
        return replace(
            self, limits=self.limits[index], given=_rows_only(self.given, rows, self.value),
            asked=self.asked[rows],
        )  # fmt: skip

    def finite(self) -> bool:
        """Whether the authority's own are."""
        return self.limits.finite()

    def problem(
        self, got: Tensor, dtype: torch.dtype, variants: Sequence[Tensor],
        results: Mapping[str, Tensor],
    ) -> Problem | None:  # fmt: skip
        """The first thing that is wrong, given the candidate's own choice."""
        limits, rows = self.given(results[self.choice]), self.asked
        if limits is None or got.shape != limits.value.shape:
            return self.limits.problem(got, dtype) if limits is not None else None
        return limits[rows].problem(got[rows], dtype, [v[rows] for v in variants])

    def worst(self, got: Tensor, results: Mapping[str, Tensor]) -> float:
        """The largest error, in limits."""
        return self._measured(got, results, Limits.worst)

    def typical(self, got: Tensor, results: Mapping[str, Tensor]) -> float:
        """The mean error, in limits."""
        return self._measured(got, results, Limits.typical)

    def _measured(
        self, got: Tensor, results: Mapping[str, Tensor], measure: Callable[[Limits, Tensor], float]
    ) -> float:
        limits, rows = self.given(results[self.choice]), self.asked
        fits = limits is not None and got.shape == limits.value.shape
        return measure(limits[rows], got[rows]) if fits and limits is not None else 0.0

    def signal(self) -> bool:
        """As of the authority's own."""
        return self.limits.signal()

    def described(self) -> dict[str, Any]:
        """As of the authority's own."""
        return {**self.limits.described(), "given": f"the candidate's own {self.choice}"}


def _rows_only(
    whole: Callable[[Tensor], Limits | None], rows: Any, value: Tensor
) -> Callable[[Tensor], Limits | None]:
    """Limits of some rows, from a choice that is of these rows only."""

    def given(choice: Tensor) -> Limits | None:
        full = torch.zeros((value.shape[0], *choice.shape[1:]), dtype=choice.dtype)
        try:
            full[rows] = choice
        except RuntimeError:  # another shape than the authority's: refused for that
            return None
        made = whole(full)
        return None if made is None else made[rows]

    return given
