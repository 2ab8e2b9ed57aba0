"""What explains a failure: a known mistake, or roundings that are not declared."""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.conformance.accuracy.profiles import MODIFIERS, profile
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws import law
from lingspec.conformance.run import Part
from lingspec.conformance.runner.host import Host, Server, TargetRefused

__all__ = ["nearest"]

Results = dict[str, Tensor]
EXPLAINS = 0.05  # of the candidate's deviation may be left unexplained


def nearest(host: Host, part: Part, contract: Contract, case: Case) -> str:
    """What explains the candidate's results: a known mistake, or roundings it does not declare.

    In words, "" if nothing does. Where its results of the plain call are inside their limits there
    is nothing to explain: what was broken shows elsewhere. Nor is a call explained that is too
    large for an authority of the whole.
    """
    if not law(case.law or "authority").whole:
        return ""
    call = contract.make(case)
    limits = contract.authority(call, part.profile)
    mine = _results(host, part.candidate.index, contract, case)
    if mine is None or not all(mine[n].shape == of.value.shape for n, of in limits.items()):
        return ""
    off = [n for n, of in limits.items() if of.worst(mine[n], mine) > 1]
    if not off:
        return ""
    known = _mistake(contract, case, {n: of.value for n, of in limits.items()}, mine)
    return known or _undeclared(contract, call, part.profile.name, mine, off)


def _mistake(contract: Contract, case: Case, want: Results, mine: Results) -> str:
    """The mutant whose deviation from the authority is the candidate's, in its words.

    Asks every mutant of the op in plain PyTorch for the same call.
    """
    residual = {n: mine[n].double() - want[n] for n in want}
    size = _size(residual)
    best, words = EXPLAINS, ""
    server = Server(preload="lingspec.conformance.registry")
    try:
        mutants = Host(server, "mutants:*", contract.op, timeout=10.0)
    except TargetRefused:  # there are none of this op
        server.close()
        return ""
    try:
        for known in mutants.candidates:
            if known.cost == "interpreted":
                continue
            theirs = _results(mutants, known.index, contract, case)
            if theirs is None or not all(theirs[n].shape == want[n].shape for n in want):
                continue
            left = {n: theirs[n].double() - want[n] - residual[n] for n in want}
            if _size(left) < best * size:
                best, words = _size(left) / size, str(known.extra["looks_like"])
    finally:
        mutants.close()
        server.close()
    return words


def _undeclared(contract: Contract, call: Call, name: str, mine: Results, off: list[str]) -> str:
    """What a candidate might have declared for its results to be inside."""
    if contract.algebra.bits:
        return ""

    def inside(wider: str) -> bool:
        used = profile(wider)
        limits, variants = contract.authority(call, used), contract.variants(call, used)
        if not all(of.finite() for of in limits.values()):
            return False
        return all(limits[n].signal() for n in off) and all(
            of.problem(mine[n], mine[n].dtype, [v[n] for v in variants if n in v], mine) is None
            for n, of in limits.items()
        )

    base, *modifiers = name.split("+")
    half = base.startswith("fp16") or any(x.dtype == torch.float16 for x in mine.values())
    form = "fp16" if half else "bf16"
    more = [m for m in MODIFIERS if m.endswith(form) and m not in modifiers]
    found = [wider for wider in (f"{name}+{m}" for m in more) if inside(wider)]
    if not found:
        ladder = ("fp64", "fp32", "tf32", f"{form}-tc", f"{form}-eager")
        above = ladder[ladder.index(base) + 1 :] if base in ladder else ()
        found = [next(filter(inside, ("+".join((b, *modifiers)) for b in above)), "")]
    words = f"roundings that {name} does not permit; within {' or '.join(found)} this call is right"
    return words if found[0] else ""


def _results(host: Host, index: int, contract: Contract, case: Case) -> Results | None:
    call = contract.make(case)
    outcome = host.call(
        index, call.tensors, call.params, positional=contract.positional,
        outputs=contract.returned(call), mutable=contract.mutable, nested=contract.nested,
    )  # fmt: skip
    if outcome.status != "ok":
        return None
    results = dict(zip(contract.returned(call), outcome.outputs, strict=True)) | outcome.mutated
    finite = all(bool(x.double().isfinite().all()) for x in results.values())
    return results if finite else None


def _size(x: Results) -> float:
    parts = [float(t.norm()) for t in x.values()]
    return float(torch.tensor(parts).norm()) if parts else 0.0
