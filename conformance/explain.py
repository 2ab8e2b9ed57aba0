"""Contracts and limits in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.asked import asked
from lingspec.conformance.accuracy.copies import Copied
from lingspec.conformance.accuracy.limits import DELTA
from lingspec.conformance.accuracy.power import degenerates, less_precise
from lingspec.conformance.accuracy.profiles import MODIFIERS, NAMES, UnknownProfileError, profile
from lingspec.conformance.case import Case, CaseError
from lingspec.conformance.contract import Contract, Expectations
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.laws import law, scale
from lingspec.conformance.laws.calls import index_of
from lingspec.conformance.plan import draw
from lingspec.conformance.regimes import REGIMES, Regime
from lingspec.conformance.run import laws_for
from lingspec.conformance.wide import WIDE
from lingspec.reference.rounding import POINTS

__all__ = ["describe", "explain", "overview"]


def overview() -> dict[str, Any]:
    """All ops, a line each."""
    data = {op: contract(op).summary for op in OPS}
    return {"data": data, "lines": [f"{op:<22} {text}" for op, text in data.items()]}


def describe(op: str) -> dict[str, Any]:
    """One op's contract."""
    of = contract(op)
    laws = {name: law(name).sentence for name in laws_for(of)}
    points = {p: POINTS[p] for p in asked(of)}
    data: dict[str, Any] = {
        "op": op, "signature": of.signature, "axes": {a: list(r) for a, r in of.axes.items()},
        "regimes": [_told(r) for r in REGIMES[op]], "wide": WIDE[op].told(),
        "laws": laws, "profiles": {d: list(p) for d, p in of.profiles.items()},
        "points": points, "modifiers": list(_modifiers(points)),
        "silentOn": list(of.silent_on),
    }  # fmt: skip
    lines = [f"{op}{of.signature}", f"  {of.summary}", "", "sizes of cases", f"  {_usual(of)}"]
    lines += [f"  {_told(r)}" for r in REGIMES[op]]
    lines += ["  and with large sizes a little larger"]
    lines += [f"  {WIDE[op].told()}"]
    lines += ["", "laws"]
    lines += [f"  {name:<14}{sentence}" for name, sentence in laws.items()]
    lines += ["", "precision profiles", *_profiles(of, points)]
    return {"data": data, "lines": [*lines, "", "silent on", *(f"  {s}" for s in of.silent_on)]}


def _profiles(of: Contract, points: dict[str, str]) -> Iterator[str]:
    """What may be declared, and what the names in it stand for."""
    first = of.make(draw(of, "authority", "native", "f32", 0, 0))
    if all(isinstance(x, Copied) for x in of.authority(first, profile("fp32")).values()):
        yield "  whatever is declared, bits are copied"
        return
    if of.algebra.bits:
        yield "  fp32          the bits of the result are the specification"
        return
    for name in NAMES:
        yield f"  {name:<14}{profile(name).describe(points)}"
    for name, at in _modifiers(points).items():
        yield f"  {'+' + name:<14}with any of them: may also round to {at}"
    if points:
        yield from ("", "where roundings may be")
    for point, meaning in points.items():
        yield f"  {point:<14}{meaning}"


def _modifiers(points: Collection[str]) -> dict[str, str]:
    """Those that permit something at ``points``: what, in words."""
    found = {m: [p for p in at if p in points] for m, (at, _) in MODIFIERS.items()}
    return {m: f"{MODIFIERS[m][1].name}: {', '.join(at)}" for m, at in found.items() if at}


def _usual(of: Contract) -> str:
    """Of which sizes most cases are."""
    return ", ".join(f"{axis} {low} to {high}" for axis, (low, high) in of.axes.items())


def _told(regime: Regime) -> str:
    """Sizes that belong together."""
    told = [f"{axis} {n}" for axis, n in regime.axes.items()]
    if regime.lengths is not None:
        few = len(regime.lengths) <= 6
        lengths = "-".join(map(str, regime.lengths))
        told.append(f"packed {lengths if few else f'{len(regime.lengths)} sequences'}")
    return " ".join(told)


def explain(
    op: str, case_text: str | None, precision: str | None, compare: str | None
) -> dict[str, Any]:
    """Where the limits of a case come from; and what an allclose would let through.

    Raises:
        CaseError: the case is of another op, or `compare` cannot be read.
    """
    of = contract(op)
    named = None if case_text is None else of.parse(case_text)
    if of.algebra.bits:
        if precision is not None or compare is not None:
            raise CaseError(f"{op} is held to its bits: --precision and --compare do not apply")
        line = f"{op} is held to its bits: there are no limits"
        return {"data": {"op": op, "bits": True}, "lines": [line]}
    case = _typical(of) if named is None else named
    try:
        used = profile(
            precision
            if precision is not None
            else {"f32": "fp32", "f64": "fp64", "f16": "fp16-tc"}.get(case.dtype, "bf16-tc")
        )
    except UnknownProfileError as unknown:
        raise CaseError(str(unknown)) from unknown
    call, members = of.make(case), ""
    if not law(case.law or "authority").whole:
        call, taken = scale.few(of, call, case.seed)
        members = f", of members {scale.told(taken)}"
    authority = of.authority(call, used)
    lines = [
        f"case       {case}{members}",
        f"precision  {used.name}: {used.describe(asked(of))}",
        *_rule(),
    ]
    data: dict[str, Any] = {"case": str(case), "precision": used.name, "tensors": {}}
    for name, want in authority.items():
        told = want.described()
        data["tensors"][name] = told
        lines += [f"{name}", *(f"  {k:<16}{v}" for k, v in told.items())]
    if compare is not None:
        table = _compared(of, case, authority, used.name, compare)
        data["compare"] = table
        lines += ["", f"allclose({compare}) on this case"]
        lines += [f"  {name:<26}{'accepted' if ok else 'rejected'}" for name, ok in table.items()]
    return {"data": data, "lines": lines}


def _typical(of: Contract) -> Case:
    """The first drawn case on which statistics are possible and limits are small."""
    used = profile("bf16-tc")
    for n in range(1, 50):
        case = draw(of, "authority", "native", "bf16", 0, n)
        authority = of.authority(of.make(case), used)
        if all(want.signal() and not want.coherent for want in authority.values()):
            return case
    return case


def _rule() -> list[str]:
    return [
        "limit      min(D, L) for every element; D alone where equal inputs repeat",
        "  D = u_out|y| + sum of worst-case terms: the reference on absolute values",
        f"  L = u_out|y| + |drift| + lambda sqrt(sum of squared terms), probability {DELTA:g}",
    ]


def _compared(
    of: Contract, case: Case, authority: Expectations, used: str, compare: str
) -> dict[str, bool]:
    try:
        pairs = sorted(part.split("=") for part in compare.split(","))
        (_, atol), (_, rtol) = ((name, float(text)) for name, text in pairs)
        known = [name for name, _ in pairs] == ["atol", "rtol"]
    except ValueError:
        known = False
    if not (known and math.isfinite(atol + rtol) and min(atol, rtol) >= 0):
        raise CaseError(f"--compare is {compare!r}, but must be rtol=NUMBER,atol=NUMBER")
    dtypes = dict.fromkeys(authority, torch.float64)

    def axis(letter: str) -> Callable[[str], int | None]:
        return lambda name: index_of(of, name, letter)

    wrong: dict[str, dict[str, Tensor]] = degenerates(authority, dtypes, axis("H"), axis("T"))
    call = of.make(case)
    wrong |= less_precise(of, call, profile(used), authority)
    for n, results in enumerate(of.variants(call, profile(used))):
        wrong[f"honest variant {n + 1}"] = results

    def accepted(results: dict[str, Tensor]) -> bool:
        return all(
            bool(torch.allclose(results[n].double(), w.value, rtol=rtol, atol=atol))
            for n, w in authority.items()
        )

    return {name: accepted(results) for name, results in wrong.items()}
