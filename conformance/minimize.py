"""A smaller case that breaks the same law: structure first, then values set to 0."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Finding
from lingspec.conformance.laws.calls import along, index_of
from lingspec.conformance.plan import shrink
from lingspec.conformance.run import Part
from lingspec.conformance.runner.host import Host

__all__ = ["broken_by", "smaller_case", "zeroed"]


def broken_by(
    host: Host, part: Part, contract: Contract, case: Case, law: str, call: Call | None = None
) -> Finding | None:
    """The finding of ``law`` in ``case``, or None."""
    verdict = judge_case(host, part.candidate, contract, part.profile, case, call=call)
    return next((f for f in verdict.findings if f.law == law), None)


def smaller_case(
    host: Host, part: Part, contract: Contract, case: Case, law: str, *, seed: int, index: int
) -> Case:
    """The simplest case that still breaks ``law``, from the draw of ``seed`` and ``index``."""

    def fails(candidate: Case) -> bool:
        return broken_by(host, part, contract, candidate, law) is not None

    return shrink(contract, case, part.candidate.cost, seed, index, fails)


def zeroed(
    host: Host, part: Part, contract: Contract, case: Case, law: str, call: Call
) -> tuple[Call, int]:
    """``call``, which fails, with every token, head and state set to 0 that it fails without.

    Returns:
        The call, and how many non-zero values are left in it.
    """

    def fails(candidate: Call) -> bool:
        return broken_by(host, part, contract, case, law, candidate) is not None

    for name in ("initial_state", "state_pool"):
        if name in call.tensors:
            call = _try(
                call, call.with_tensors(**{name: torch.zeros_like(call.tensors[name])}), fails
            )
    for letter in ("T", "H", "B"):
        call = _without(contract, call, letter, fails)
    left = sum(int(x.count_nonzero()) for n, x in call.tensors.items() if x.is_floating_point())
    return call, left


def _without(contract: Contract, call: Call, letter: str, fails: Callable[[Call], bool]) -> Call:
    """Set spans of an axis to 0, halves first, as long as the law stays broken."""
    sizes = [
        x.shape[a]
        for n, x in call.tensors.items()
        if (a := index_of(contract, n, letter)) is not None
    ]
    if not sizes or sizes[0] < 2:
        return call
    span = max(1, sizes[0] // 2)
    while span:
        for first in range(0, sizes[0], span):
            call = _try(call, _silenced(contract, call, letter, slice(first, first + span)), fails)
        span //= 2 if span > max(1, sizes[0] // 8) else span + 1
    return call


def _silenced(contract: Contract, call: Call, letter: str, index: slice) -> Call:
    changed = {}
    for name in ("q", "k", "v"):
        axis = index_of(contract, name, letter)
        if axis is not None and name in call.tensors:
            x = call.tensors[name].clone()
            along(x, axis, index).zero_()
            changed[name] = x
    return call.with_tensors(**changed)


def _try(now: Call, simpler: Call, fails: Callable[[Call], bool]) -> Call:
    same = all(torch.equal(x, now.tensors[n]) for n, x in simpler.tensors.items())
    return simpler if not same and fails(simpler) else now
