"""Proof of power: wrong results that a run must have rejected before it may say PASS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lingspec.conformance.accuracy.formats import BF16, Format
from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.accuracy.profiles import Profile, profile
from lingspec.conformance.accuracy.verdict import judge

if TYPE_CHECKING:
    from lingspec.conformance.case import Call
    from lingspec.conformance.contract import Contract

__all__ = ["REJECTIONS", "degenerates", "less_precise", "rejected"]

REJECTIONS = 3  # cases of a run that must reject each degenerate
Results = dict[str, Tensor]

# What is one step less precise than each profile: its results must not pass.
_FP8 = Format("fp8", 2.0**-4, 2.0**-10, 448.0)
_NEXT = {"fp64": "fp32", "fp32": "tf32", "tf32": "bf16-tc", "fp16-tc": "bf16-tc"}


def lower(of: Profile) -> Profile | None:
    """The next-lower precision: e4m3 operands below 16-bit ones; None below eager profiles."""
    base, *modifiers = of.name.split("+")
    # Where a modifier rounds an operand to bf16, tf32 would be no less precise.
    narrow = {p: _FP8 for p, form in of.points.items() if p != "state" and form is BF16}
    if narrow and (base == "bf16-tc" or (modifiers and not base.endswith("eager"))):
        return Profile("fp8-tc", of.arithmetic, narrow)
    return profile(_NEXT[base]) if base in _NEXT else None


def less_precise(contract: Contract, call: Call, of: Profile) -> dict[str, Results]:
    """The results of ``call`` in the next-lower precision with every rounding taken, by name."""
    less = lower(of)
    if less is None:
        return {}
    dtypes = {n: x.dtype for n, x in call.tensors.items()}
    if not less.points:  # nothing but arithmetic rounds: let it
        narrow = {
            n: x.to(torch.float32) for n, x in call.tensors.items() if dtypes[n] == torch.float64
        }
        call = call.with_tensors(**narrow)
    results = contract.variants(call, less)[1]
    if not less.points:
        results = {n: x.double() for n, x in results.items()}
    return {f"precision {less.name}": results}


def degenerates(
    authority: Mapping[str, Limits],
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
            return y if at is None else y.roll(1, at)

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
    authority: Mapping[str, Limits],
    dtypes: Mapping[str, torch.dtype],
    variants: list[Results],
) -> bool:
    """Whether the judge refuses ``wrong``."""
    return any(
        judge(wrong[n], want, dtypes[n], [v[n] for v in variants if n in v]) is not None
        for n, want in authority.items()
    )
