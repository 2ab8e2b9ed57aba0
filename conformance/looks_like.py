"""Which known mistake explains a failure: the mutant whose results are the candidate's."""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Contract
from lingspec.conformance.run import Part
from lingspec.conformance.runner.host import Host, Server, TargetRefused

__all__ = ["nearest"]

EXPLAINS = 0.05  # of the candidate's deviation may be left unexplained


def nearest(host: Host, part: Part, contract: Contract, case: Case) -> str:
    """The mistake, in words, whose deviation from the authority is the candidate's; "" if none is.

    Asks every mutant of the op in plain PyTorch for the same call. Where the candidate's results of
    it are inside their limits there is nothing to explain: what was broken shows elsewhere.
    """
    call = contract.make(case)
    limits = contract.authority(call, part.profile)
    want = {n: of.value for n, of in limits.items()}
    mine = _results(host, part.candidate.index, contract, case)
    if mine is None or not all(mine[n].shape == want[n].shape for n in want):
        return ""
    residual = {n: mine[n].double() - want[n] for n in want}
    size = _size(residual)
    if not any(limits[n].worst(mine[n], mine) > 1 for n in want):
        return ""
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


def _results(host: Host, index: int, contract: Contract, case: Case) -> dict[str, Tensor] | None:
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


def _size(x: dict[str, Tensor]) -> float:
    parts = [float(t.norm()) for t in x.values()]
    return float(torch.tensor(parts).norm()) if parts else 0.0
