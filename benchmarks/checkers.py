"""The comparison rules of other checkers and ours, on the same right and wrong kernels.

Every plain PyTorch mutant and honest variant of lightning_attention runs on the same cases; every
rule says of every run whether it accepts it. Nothing but the values that come back is judged.

    python benchmarks/checkers.py [--cases 24] [--seed 1] [--report DIR] [--page docs/checkers.md]
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from checkers_page import HEADER, markdown, never, plain, plot, put, rejected, summary, table
from rules import RULES, Sample
from torch import Tensor

from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.accuracy.profiles import Profile, profile
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.accuracy.verdict import excess
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contracts import contract
from lingspec.conformance.output import environment
from lingspec.conformance.plan import draw
from lingspec.conformance.run import Part, parts
from lingspec.conformance.runner.host import Host, Outcome, Server
from lingspec.reference import lightning_attention, rounding
from lingspec.reference.formulations.lightning_attention import lightning_attention_closed

OP = "lightning_attention"
OF = contract(OP)
GROUPS = {"bf16": "bf16-tc", "f32": "fp32"}  # dtype of the inputs: the profile that is judged
EAGER = {"bf16": profile("bf16-eager"), "f32": profile("fp32")}
HEADS = {"o": 2, "final_state": 1}  # the axis of heads
KINDS = ("honest", "mutants")


@dataclass(frozen=True)
class Run:
    """One candidate on one case."""

    dtype: str
    kind: str
    name: str
    case: str
    status: str  # ok, wrong, crash, timeout
    observable: bool  # by twice our limit, or by shape, dtype, a value that is not finite
    outside: bool  # further off than twice the worst honest run of this case, in some head
    accepted: tuple[bool, ...]  # by rule


@dataclass(frozen=True)
class Problem:
    """A case, and what every rule knows of it."""

    case: Case
    call: Call
    want: dict[str, Limits]
    variants: list[dict[str, Tensor]]
    pairs: dict[str, Tensor]
    tokens: dict[str, Tensor]

    def dtype_of(self, name: str) -> torch.dtype:
        """What a result must have."""
        return self.case.torch_dtype if name == "o" else torch.float32

    def samples(self, outputs: Sequence[Tensor]) -> Iterator[Sample]:
        """Every tensor of a run, with what the rules know of it."""
        for (name, want), got in zip(self.want.items(), outputs, strict=True):
            yield Sample(
                got, want, want.value.to(self.dtype_of(name)), [v[name] for v in self.variants],
                self.pairs[name], self.tokens[name], low=self.case.dtype == "bf16",
            )  # fmt: skip


def problem(case: Case) -> Problem | None:
    """What is known of a case; None where nothing can be judged."""
    call = OF.make(case)
    if call.tensors["v"].numel() == 0:
        return None
    judged: Profile = profile(GROUPS[case.dtype])
    want = OF.authority(call, judged)
    if not all(w.finite() for w in want.values()):
        return None
    given: dict[str, Any] = {**call.tensors, **call.params}
    with rounding(casting(EAGER[case.dtype])):
        pairs = dict(zip(want, lightning_attention_closed(**given), strict=True))
        tokens = dict(zip(want, lightning_attention(**given), strict=True))
    return Problem(case, call, want, OF.variants(call, judged), pairs, tokens)


def problems(dtype: str, count: int, seed: int) -> Iterator[Problem]:
    """Cases that are not empty, of the strategy that `certify` draws the law `authority` from.

    The seed of the values is made here: Hypothesis mixes numbers that it finds in the source of
    loaded modules into the integers that it draws, so an edit of this file would change it.
    """
    index = found = 0
    while found < count:
        case = draw(OF, "authority", "native", dtype, seed, index)
        own = zlib.crc32(f"{seed}/{dtype}/{index}".encode()) & 0xFFFF
        made = problem(case.with_(seed=own))
        index += 1
        if made is not None:
            found += 1
            yield made


def asked(host: Host, dtype: str) -> list[Part]:
    """Candidates of a target that declare this dtype with the profile that is judged here."""
    found = []
    for candidate in host.candidates:
        if candidate.cost != "native" or candidate.extra.get("laws") == ["gradients"]:
            continue
        for part in parts(candidate, OF):
            if part.dtype == dtype and part.profile.name == GROUPS[dtype]:
                found.append(part)
    return found


def measure(cases: int, seed: int) -> list[Run]:
    """Every candidate on every case."""
    server = Server(preload="lingspec.conformance.registry")
    hosts = {kind: Host(server, f"{kind}:*", OP, timeout=20.0) for kind in KINDS}
    runs: list[Run] = []
    try:
        for dtype in GROUPS:
            for n, of in enumerate(problems(dtype, cases, seed)):
                runs += on_case(hosts, of)
                print(f"{dtype} {n + 1}/{cases} {of.case}", flush=True)
    finally:
        for host in hosts.values():
            host.close()
        server.close()
    return runs


def on_case(hosts: dict[str, Host], of: Problem) -> Iterator[Run]:
    """All candidates on one case, honest ones first."""
    worst: dict[str, Tensor] = {}
    for kind in KINDS:
        for part in asked(hosts[kind], of.case.dtype):
            outcome = hosts[kind].call(
                part.candidate.index, of.call.tensors, of.call.params,
                positional=OF.positional, outputs=OF.results, far=of.call.far,
            )  # fmt: skip
            errors = errors_of(outcome, of)
            if kind == "honest" and errors is not None:
                for name, e in errors.items():
                    worst[name] = torch.maximum(worst.get(name, e), e)
            yield Run(
                of.case.dtype, kind, part.candidate.name, str(of.case), outcome.status,
                observable(outcome, of),
                errors is None or any(bool((e > 2 * worst[n]).any()) for n, e in errors.items()),
                verdicts(outcome, of),
            )  # fmt: skip


def errors_of(outcome: Outcome, of: Problem) -> dict[str, Tensor] | None:
    """The largest error of each head; None for what is no result of this op."""
    if not sound(outcome, of):
        return None
    found = {}
    for (name, want), got in zip(of.want.items(), outcome.outputs, strict=True):
        error = (got.double() - want.value).abs()
        found[name] = error.amax([d for d in range(4) if d != HEADS[name]])
    return found


def sound(outcome: Outcome, of: Problem) -> bool:
    """A result of the right shapes and dtypes, finite."""
    return outcome.status == "ok" and all(
        got.shape == want.value.shape
        and got.dtype == of.dtype_of(name)
        and bool(got.isfinite().all())
        for (name, want), got in zip(of.want.items(), outcome.outputs, strict=True)
    )


def observable(outcome: Outcome, of: Problem) -> bool:
    if not sound(outcome, of):
        return True
    return any(
        bool((excess(got.double() - want.value, want) > 2).any())
        for want, got in zip(of.want.values(), outcome.outputs, strict=True)
    )


def verdicts(outcome: Outcome, of: Problem) -> tuple[bool, ...]:
    """What every rule says; none accepts a candidate that gave no result."""
    if outcome.status != "ok":
        return (False,) * len(RULES)
    samples = list(of.samples(outcome.outputs))
    return tuple(all(rule(s) for s in samples) for rule in RULES)


# -- scores ----------------------------------------------------------------------------------


def scores(runs: Sequence[Run], dtype: str) -> dict[str, Any]:
    """Counts of one dtype: totals, then for every rule."""
    honest = by_name(r for r in runs if r.dtype == dtype and r.kind == "honest")
    wrong = by_name(r for r in runs if r.dtype == dtype and r.kind == "mutants")
    seen = {n: rs for n, rs in wrong.items() if any(r.observable or r.outside for r in rs)}
    every = [r for rs in wrong.values() for r in rs]
    counted = [r for r in every if r.observable]
    outside = [r for r in every if r.outside]
    rules = {}
    for n, rule in enumerate(RULES):
        rules[rule.name] = {
            "honestRuns": sum(not r.accepted[n] for rs in honest.values() for r in rs),
            "honest": [name for name, rs in honest.items() if not all(r.accepted[n] for r in rs)],
            "never": [name for name, rs in seen.items() if all(r.accepted[n] for r in rs)],
            "observable": sum(r.accepted[n] for r in counted),
            "outside": sum(r.accepted[n] for r in outside),
        }
    return {
        "profile": GROUPS[dtype],
        "cases": list(dict.fromkeys(r.case for r in runs if r.dtype == dtype)),
        "honest": len(honest), "honestRuns": sum(map(len, honest.values())),
        "mutants": len(seen), "mutantRuns": len(every),
        "observable": len(counted), "outside": len(outside),
        "leftOut": sorted(set(wrong) - set(seen)),
        "rules": rules,
    }  # fmt: skip


def by_name(runs: Iterator[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.name, []).append(run)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=24, help="for each dtype")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="folder for checkers.json, .md, .svg, .png")
    parser.add_argument(
        "--page", type=Path, help="page whose tables, and the plot beside it, to renew"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = measure(options.cases, options.seed)
    result: dict[str, Any] = {
        "schema": "lingspec.checkers/1", "seed": options.seed, "casesEach": options.cases,
        "environment": environment(),
        "rules": [{"name": rule.name, "accepts": rule.text} for rule in RULES],
        "scores": {dtype: scores(runs, dtype) for dtype in GROUPS},
        "runs": [asdict(r) for r in runs],
    }  # fmt: skip
    for dtype, told in result["scores"].items():
        print("", summary(dtype, told), *plain([HEADER, *table(told)]), sep="\n")
        print("never rejected:", *(f"  {m}: {rules}" for m, rules in never(told)), sep="\n")
        print("left out, since they do not show:", ", ".join(told["leftOut"]) or "none")
    print("honest runs that lingspec rejected:", rejected(result) or "none")
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "checkers.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.report / "checkers.md").write_text(markdown(result))
        plot(result, options.report, "svg", "png")
    if options.page:
        put(options.page, markdown(result))
        plot(result, options.page.parent, "svg")


if __name__ == "__main__":
    main()
