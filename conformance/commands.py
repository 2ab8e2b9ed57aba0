"""What the verbs of the command line do."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import multiprocessing
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lingspec.conformance import bundle as bundles
from lingspec.conformance import text
from lingspec.conformance.case import Call, Case
from lingspec.conformance.certify import Options, PartReport, Report, opened, run
from lingspec.conformance.config import defaults
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.looks_like import nearest
from lingspec.conformance.minimize import broken_by, smaller_case, zeroed
from lingspec.conformance.output import as_data, write_all
from lingspec.conformance.output import as_json as report_as_json
from lingspec.conformance.plan import plan
from lingspec.conformance.run import Part, laws_for, parts
from lingspec.conformance.runner.host import Host, TargetRefused
from lingspec.conformance.selftest import Row, run_self_test

__all__ = ["certify", "minimize", "replay", "self_test"]


def _device(asked: str | None) -> str:
    if asked:
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def certify(
    ops: tuple[str, ...], *, as_json: bool, junit: Path | None, given: dict[str, Any]
) -> int:
    """`lingspec certify`."""
    table = defaults(Path.cwd())
    asked = {**table, **{k: v for k, v in given.items() if v is not None}}
    for op in ops:
        contract(op)  # refused here if unknown
    options = Options(
        target=asked.get("target", "kernels"), ops=ops, profile=asked.get("profile", "ci"),
        device=_device(asked.get("device")), seed=asked.get("seed"),
        precision=asked.get("precision"), backward=asked["backward"],
        workers=asked.get("workers", 1), shard=asked["shard"], timeout=asked.get("timeout", 60.0),
    )  # fmt: skip
    out = Path(asked.get("out", "lingspec-out"))
    with _bar(quiet=as_json) as progress:
        report = run(options, progress)
    smallest, looks = _explained(report, out)
    certificate = write_all(report, out, junit)
    if as_json:
        click.echo(
            json.dumps(
                {**report_as_json(report), "certificate": str(certificate) if certificate else None}
            )
        )
    else:
        click.echo("\n".join(text.lines(report, looks, smallest)))
        click.echo(_closing(report, out, certificate))
    return report.exit_code()


def _closing(report: Report, out: Path, certificate: Path | None) -> str:
    again = f"seed {report.seed}, results in {out}"
    if certificate:
        return f"{again}, certificate {certificate}"
    if report.status() == "PASS":
        what = "a shard" if report.options.shard != (1, 1) else f"profile {report.options.profile}"
        return f"{again}; {what} is not sufficient for certification"
    return again


def _explained(report: Report, out: Path) -> tuple[dict[str, Finding], dict[str, str]]:
    """The first failure of every part: smaller, named if it is a known mistake, and bundled."""
    smallest: dict[str, Finding] = {}
    looks: dict[str, str] = {}
    failed = [p for p in report.parts if p.findings()]
    if not failed:
        return smallest, looks
    with opened(report.options) as host:
        for part in failed:
            finding = part.first()
            assert finding is not None
            case, small = _smaller(host, part, finding, report)
            smallest[finding.case] = small
            if small.status == "FAIL":
                looks[finding.case] = nearest(host, part.part, contract(part.op), case)
            bundles.write(
                out / "bundles", case, contract(part.op).make(case), small,
                target=report.options.target, candidate=part.part.candidate.name,
                precision=part.part.profile.name, backward=report.options.backward,
            )  # fmt: skip
    return smallest, looks


def _smaller(
    host: Host, part: PartReport, finding: Finding, report: Report
) -> tuple[Case, Finding]:
    of = contract(part.op)
    case = of.parse(finding.case)
    asked = plan(
        of,
        (case.law or "authority",),
        part.part.dtype,
        part.part.candidate.cost,
        report.options.profile,
        report.seed,
    )
    index = next((n for n, c in enumerate(asked) if str(c) == finding.case), None)
    if index is None or finding.status == "TIMEOUT":
        return case, finding
    small = smaller_case(host, part.part, of, case, finding.law, seed=report.seed, index=index)
    return small, broken_by(host, part.part, of, small, finding.law) or finding


# -- one case --------------------------------------------------------------------------------


@contextmanager
def _one(
    case: str, given: dict[str, Any]
) -> Iterator[tuple[Host, list[Part], Case, Call | None, str]]:
    """A host and the parts that a case or bundle names."""
    call: Call | None = None
    path = Path(case)
    precision, backward = given.get("precision"), bool(given.get("backward"))
    if path.suffix == ".safetensors" or _is_file(path):
        stored = bundles.load(path)
        made, call = stored.case, stored.call
        target = given.get("target") or stored.target
        precision, backward = precision or stored.precision, backward or stored.backward
        name = stored.candidate if target == stored.target else None
    else:
        made = contract(case.partition(":")[0]).parse(case)
        target, name = given.get("target") or "kernels", None
    options = Options(
        target=target, ops=(made.op,), precision=precision,
        backward=backward, device=_device(None),
    )  # fmt: skip
    with opened(options) as host:
        of = contract(made.op)
        found = [
            p for c in host.candidates if c.op == made.op and name in (None, c.name)
            for p in parts(c, of, precision) if p.dtype == made.dtype
        ]  # fmt: skip
        if not found:
            raise TargetRefused("usage", f"{target!r} has nothing for {made.op} in {made.dtype}")
        yield host, found, made, call, target


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a case with many sequences is longer than a file's name may be
        return False


def replay(case: str, *, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec replay`."""
    verdicts: list[Verdict] = []
    with _one(case, given) as (host, found, made, call, target):
        of = contract(made.op)
        laws = (made.law,) if made.law else laws_for(of)
        for part in found:
            for name in laws:
                verdicts.append(
                    judge_case(
                        host, part.candidate, of, part.profile, made.with_(law=name), call=call
                    )
                )
    _print_verdicts(verdicts, text.again(target, **_how(given)), as_json)
    if any(v.findings for v in verdicts):
        return 1
    return 0 if any(v.status == "PASS" for v in verdicts) else 3


def _how(given: dict[str, Any]) -> dict[str, Any]:
    return {"precision": given.get("precision"), "backward": bool(given.get("backward"))}


def _print_verdicts(verdicts: list[Verdict], again: str, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                [{**v.__dict__, "findings": [as_data(f) for f in v.findings]} for v in verdicts]
            )
        )
        return
    for v in verdicts:
        why = f" ({v.reason})" if v.reason else f", worst error {v.worst:.2g} of its limit"
        click.echo(f"{v.case}  {v.status}{why}")
        for finding in v.findings:
            click.echo("\n".join(text.failure(finding, again)))


def minimize(case: str, *, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec minimize`."""
    with _one(case, given) as (host, found, made, call, target):
        of, part = contract(made.op), found[0]
        verdict = judge_case(host, part.candidate, of, part.profile, made, call=call)
        if not verdict.findings:
            if as_json:
                click.echo(json.dumps({"bundle": None, "status": verdict.status}))
            click.echo(f"{made} breaks nothing: {verdict.status}", err=True)
            return 3
        law = verdict.findings[0].law
        smaller, left = zeroed(host, part, of, made, law)
        finding = broken_by(host, part, of, made, law, smaller) or verdict.findings[0]
        path = bundles.write(
            given["out"] / "bundles", made, smaller, finding, target=target,
            candidate=part.candidate.name, precision=part.profile.name,
            backward=host.backward,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"bundle": str(path), "nonzero": left, "law": law}))
    else:
        click.echo("\n".join(text.failure(finding, text.again(target, **_how(given)))))
        click.echo(f"  values    {left} that are not 0\n  bundle    {path}")
    return 1


# -- the suite against itself ----------------------------------------------------------------


def self_test(ops: tuple[str, ...], *, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec self-test`."""
    from lingspec.conformance import registry

    wanted: list[tuple[str, str, str]] = []
    for kind in registry.KINDS:
        for name, entry in registry.load(kind).items():
            if not given["only"] or any(part in name for part in given["only"]):
                wanted.append((entry.declaration.op, kind, name))
    for op in ops:
        contract(op)
    wanted = [w for w in wanted if not ops or w[0] in ops]
    if given["sample"]:
        wanted = _sampled(wanted, given["sample"], given["seed"])
    if given["list_only"]:
        named = [{"kind": kind, "name": name, "op": op} for op, kind, name in wanted]
        lines = "\n".join(f"{kind}:{name}  {op}" for op, kind, name in wanted)
        click.echo(json.dumps(named) if as_json else lines)
        return 0
    if not wanted:
        raise TargetRefused(
            "usage", f"no mutant or honest variant is called {', '.join(given['only'])}"
        )
    rows = _rows(wanted, given)
    survivors = [r for r in rows if r.kind == "mutants" and not r.ok]
    rejected = [r for r in rows if r.kind == "honest" and not r.ok]
    if as_json:
        click.echo(json.dumps([_row_data(r) for r in rows]))
    else:
        _matrix(rows)
        mutants = sum(r.kind == "mutants" for r in rows)
        click.echo(
            f"{mutants} mutants, {len(survivors)} survivors; "
            f"{len(rows) - mutants} honest variants, {len(rejected)} rejected"
        )
    return 1 if survivors or rejected else 0


def _sampled(
    wanted: list[tuple[str, str, str]], count: int, seed: int
) -> list[tuple[str, str, str]]:
    picked = []
    for op in OPS:
        of = sorted(w for w in wanted if w[0] == op)
        picked += random.Random(f"{seed}/{op}").sample(of, min(count, len(of)))
    return picked


def _rows(wanted: list[tuple[str, str, str]], given: dict[str, Any]) -> list[Row]:
    jobs = []
    for op in OPS:
        names = [(kind, name) for of, kind, name in wanted if of == op]
        for n in range(given["workers"]):
            if names[n :: given["workers"]]:
                jobs.append((op, names[n :: given["workers"]], given["profile"], given["seed"]))
    if given["workers"] == 1:
        return list(itertools.chain.from_iterable(run_self_test(*job) for job in jobs))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(given["workers"], context) as pool:
        return list(
            itertools.chain.from_iterable(pool.map(run_self_test, *zip(*jobs, strict=True)))
        )


def _matrix(rows: list[Row]) -> None:
    for r in sorted(rows, key=lambda r: (r.op, r.kind, r.name)):
        if r.kind == "honest":
            said = (
                f"accepted, worst error {r.worst:.2g} of its limit"
                if r.ok
                else "REJECTED by " + ", ".join(r.broken)
            )
        else:
            at = ", ".join(f"{law} at case {n}" for law, n in r.broken.items())
            said = (
                f"killed by {at} ({r.seconds:.1f} s)"
                if r.ok
                else f"SURVIVED {r.expected[0]}; broke {at or 'nothing'}"
            )
        click.echo(f"{r.op}  {r.kind}:{r.name}  {said}")
        if r.first is not None and not r.ok:
            click.echo("\n".join(text.failure(r.first, text.again(f"{r.kind}:{r.name}"))))


def _row_data(row: Row) -> dict[str, Any]:
    return {
        "kind": row.kind, "name": row.name, "op": row.op, "ok": row.ok,
        "expected": list(row.expected), "broken": row.broken, "cases": row.cases,
        "seconds": row.seconds, "worst": row.worst,
    }  # fmt: skip


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Any]:
    """A progress bar on a terminal; nothing otherwise."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda *_: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("cases", total=None)

        def progress(done: int, total: int, verdict: Verdict | None) -> None:
            bar.update(
                task, completed=done, total=total, description=verdict.law if verdict else "cases"
            )

        yield progress
