"""Proof of power: wrong results that a run must have rejected before it may say PASS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lingspec.conformance.accuracy.expected import Expected
from lingspec.conformance.accuracy.formats import BF16, TF32, Format
from lingspec.conformance.accuracy.profiles import OPERANDS, SPECIFIED, Profile, profile

if TYPE_CHECKING:
    from lingspec.conformance.case import Call
    from lingspec.conformance.contract import Contract

__all__ = [
    "ALWAYS", "REJECTIONS", "applicable", "degenerates", "less_precise", "rejected", "unproven",
]  # fmt: skip

REJECTIONS = 3  # cases of a run that must reject each degenerate
ALWAYS = ("zeros", "gain 1.01")  # degenerates of every op, in every run
MOVES = 2.0  # limits by which a degenerate must move a result for a case to be asked about it
Results = dict[str, Tensor]

_FP8 = Format("fp8", 2.0**-4, 2.0**-10, 448.0)
_BELOW = {"tf32": BF16, "fp16": BF16, "bf16": _FP8}
STEPS = 2  # what is one step below may be finer than the results are stored


def lower(of: Profile) -> Profile | None:
    """One step less precise: the coarsest points one format down. None below eager profiles."""
    base = of.name.split("+")[0]
    if base.endswith("eager"):
        return None
    if base == "fp64":
        return profile("fp32")
    if not of.points:
        return Profile("tf32", of.arithmetic, dict.fromkeys((*OPERANDS, *SPECIFIED, "score"), TF32))
    coarsest = max(form.u for form in of.points.values())
    points = {p: _BELOW.get(form.name) for p, form in of.points.items() if form.u == coarsest}
    less = {p: form for p, form in points.items() if form is not None}
    if not less:
        return None
    name = next(iter(less.values())).name
    where = "-tc" if set(OPERANDS) <= less.keys() else f" {', '.join(less)}"
    return Profile(name + where, of.arithmetic, {**of.points, **less})


def less_precise(
    contract: Contract, call: Call, of: Profile, authority: Mapping[str, Expected]
) -> dict[str, Results]:
    """The results of ``call`` with the roundings of less precise profiles, by name."""
    made: dict[str, Results] = {}
    less = lower(of)
    while less is not None and len(made) < STEPS:
        now = call
        if not less.points:  # nothing but arithmetic rounds: let it
            double = {n: x for n, x in call.tensors.items() if x.dtype == torch.float64}
            now = call.with_tensors(**{n: x.float() for n, x in double.items()})
        runs = (contract.rounded or contract.variants)(now, less)
        if not less.points:
            runs = [{n: x.double() for n, x in r.items()} for r in runs]
        made[f"precision {less.name}"] = max(runs, key=lambda r: _distance(r, authority))
        less = lower(less)
    return made


def _distance(results: Results, authority: Mapping[str, Expected]) -> float:
    """The mean error of results, in their limits: which formulation shows its roundings most."""
    found = (want.typical(results[n], results) for n, want in authority.items() if n in results)
    return sum(found)


def applicable(wrong: Results, authority: Mapping[str, Expected]) -> bool:
    """Whether wrong results are far enough from the right ones to be asked about."""
    return any(
        want.worst(wrong[n], wrong) > MOVES for n, want in authority.items()
        if n in wrong and wrong[n].shape == want.value.shape
    )  # fmt: skip


def unproven(power: Mapping[str, int], least: int) -> list[str]:
    """Degenerates that too few cases rejected; of the less precise ones, one must be enough."""
    steps = {name: n for name, n in power.items() if name.startswith("precision ")}
    weak = [name for name, n in power.items() if n < least and name not in steps]
    told = not steps or any(n >= least for n in steps.values())
    return weak if told else [*weak, *steps]


def degenerates(
    authority: Mapping[str, Expected],
    dtypes: Mapping[str, torch.dtype],
    heads: Callable[[str], int | None],
    tokens: Callable[[str], int | None],
) -> dict[str, Results]:
    """Wrong results made from the right ones: name -> results."""

    def every(f: Callable[[str, Tensor], Tensor]) -> Results:
        return {n: f(n, w.value).to(dtypes[n]) for n, w in authority.items()}

    def rolled(axis: Callable[[str], int | None]) -> Callable[[str, Tensor], Tensor]:
        def roll(name: str, y: Tensor) -> Tensor:
            at = axis(name)
            return y if at is None or at >= y.dim() else y.roll(1, at)

        return roll

    made = {
        "zeros": every(lambda _, y: torch.zeros_like(y)),
        "gain 1.01": every(lambda _, y: 1.01 * y),
    }
    for name, axis in (("one token late", tokens), ("heads rolled", heads)):
        if any(axis(n) is not None for n in authority):  # an op may have no such axis
            made[name] = every(rolled(axis))
    return made


def rejected(
    wrong: Results,
    authority: Mapping[str, Expected],
    dtypes: Mapping[str, torch.dtype],
    variants: list[Results],
) -> bool:
    """Whether the judge refuses ``wrong``."""
    return any(
        want.problem(wrong[n], dtypes[n], [v[n] for v in variants if n in v], wrong) is not None
        for n, want in authority.items()
    )
