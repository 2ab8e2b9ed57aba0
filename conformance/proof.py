"""What a case proves: which wrong results it would have rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lingspec.conformance.accuracy.expected import Expected
from lingspec.conformance.accuracy.power import (
    ALWAYS,
    applicable,
    degenerates,
    less_precise,
    rejected,
)
from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.case import Call, dtype_of
from lingspec.conformance.contract import Contract
from lingspec.conformance.contracts import contract
from lingspec.conformance.laws.calls import index_of

if TYPE_CHECKING:
    from lingspec.conformance.report import PartReport

__all__ = ["complete", "proof"]

Proof = tuple[tuple[str, ...], tuple[str, ...]]


def proof(
    of: Contract, call: Call, profile: Profile, dtype: torch.dtype,
    authority: Mapping[str, Expected], variants: Callable[[], list[dict[str, Tensor]]],
) -> Proof:  # fmt: skip
    """The degenerates that a call rejects, and those that it could have been asked about."""
    if not any(want.signal() for want in authority.values()):
        return (), ()
    kinds = {s.name: s.dtype for s in (*of.inputs, *of.outputs)}
    dtypes = {name: dtype_of(kinds[name], dtype) for name in authority}
    wrong: dict[str, dict[str, Tensor]] = degenerates(
        authority, dtypes, lambda n: index_of(of, n, "H"), lambda n: index_of(of, n, "T")
    )
    wrong |= less_precise(of, call, profile, authority)
    wrong = {
        name: results for name, results in wrong.items()
        if name in ALWAYS or applicable(results, authority)
    }  # fmt: skip
    honest = variants()
    killed = tuple(n for n, r in wrong.items() if rejected(r, authority, dtypes, honest))
    return killed, tuple(wrong)


def complete(report: PartReport, profile: str) -> None:
    """Ask cases of other laws too, in turn, about what those of authority proved too little of.

    A candidate that supports little has few of those.
    """
    if report.status(profile) != "VOID":
        return
    of, needed = contract(report.op), set(report.unproven(profile))
    for verdict in report.verdicts:
        if not needed:
            return
        if verdict.law == "authority" or verdict.status != "PASS":
            continue
        case = of.parse(verdict.case)
        call = of.make(case)
        authority = of.authority(call, report.part.profile)
        if not all(want.finite() for want in authority.values()):
            continue
        killed, asked = proof(
            of, call, report.part.profile, case.torch_dtype, authority,
            partial(of.variants, call, report.part.profile),
        )  # fmt: skip
        verdict.killed = tuple(n for n in killed if n in needed)
        verdict.applicable = tuple(n for n in asked if n in needed)
        needed &= set(report.unproven(profile))
