"""`lingspec certify`: run, explain the first failure of each part, write the files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from lingspec.conformance import bundle as bundles
from lingspec.conformance import seeds, text, waivers
from lingspec.conformance.case import Case
from lingspec.conformance.certificate import digests
from lingspec.conformance.certify import opened, run, work_of
from lingspec.conformance.config import ConfigError, defaults
from lingspec.conformance.contracts import contract
from lingspec.conformance.coverage import lines as coverage_lines
from lingspec.conformance.findings import Finding
from lingspec.conformance.looks_like import nearest
from lingspec.conformance.merge import merge
from lingspec.conformance.minimize import broken_by, smaller_case
from lingspec.conformance.output import as_json as report_as_json
from lingspec.conformance.output import write_all
from lingspec.conformance.plan import plan
from lingspec.conformance.report import Options, PartReport, Report
from lingspec.conformance.runner.host import Host
from lingspec.conformance.verbs.progress import progress

__all__ = ["certify", "device_of", "draw_seed", "merged"]


def device_of(asked: str | None) -> str:
    """The device that was asked for, or the best one here."""
    if asked:
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def certify(
    ops: tuple[str, ...], *, as_json: bool, junit: Path | None, given: dict[str, Any]
) -> int:
    """`lingspec certify`."""
    asked, options = _options(ops, given)
    out = Path(asked.get("out", "lingspec-out"))
    _writable(out, junit)
    with progress(quiet=as_json) as tick:
        report = run(
            options, lambda done, total, v: tick(done, total, f"{v.law}, {v.seconds:.1f} s")
        )
    _explain(report, out)
    return _tell(report, out, junit, as_json=as_json, coverage=asked["coverage"])


def draw_seed(ops: tuple[str, ...], *, out: Path, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec seed`: the candidate's files are hashed first, then the seed is drawn."""
    _, options = _options(ops, given)
    with opened(options) as host:
        work_of(host, options)  # refused here if it could not be judged
        subjects = digests(host.sources())
    drawn = seeds.draw(options.target, subjects)
    seeds.write(drawn, out)
    files = text.counted(len(subjects), "file")
    told = {"seed": drawn.seed, "file": str(out), "target": drawn.target, "subjects": subjects}
    said = f"seed {drawn.seed} for {drawn.target}, {files}, in {out}"
    click.echo(json.dumps(told) if as_json else said)
    return 0


def merged(
    folders: tuple[Path, ...], *, as_json: bool, junit: Path | None, given: dict[str, Any]
) -> int:
    """`lingspec report merge`."""
    out = given["out"]
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise ConfigError(f"--out is {out}, but must not be the folder of a shard")
    _writable(out, junit)
    return _tell(merge(folders), out, junit, as_json=as_json, coverage=given["coverage"])


def _options(ops: tuple[str, ...], given: dict[str, Any]) -> tuple[dict[str, Any], Options]:
    """What was asked, on the command line and in pyproject.toml.

    Raises:
        ConfigError: it contradicts itself, or a file that it names is wrong.
        UnknownOpError: it names an op that there is not.
    """
    told = {k: v for k, v in given.items() if v is not None}
    if "seed" in told and "seed_file" in told:
        raise ConfigError("--seed and --seed-file exclude each other: the file holds a seed")
    asked = {**defaults(Path.cwd()), **told}
    for op in ops:
        contract(op)  # refused here if unknown
    drawn = seeds.read(asked["seed_file"]) if "seed_file" in asked else None
    return asked, Options(
        target=asked.get("target", "kernels"), ops=tuple(dict.fromkeys(ops)),
        profile=asked.get("profile", "ci"), device=device_of(asked.get("device")),
        seed=None if drawn else asked.get("seed"), precision=asked.get("precision"),
        backward=asked.get("backward", False), workers=asked.get("workers", 1),
        shard=asked.get("shard", (1, 1)), timeout=asked.get("timeout", 60.0),
        fail_fast=asked.get("fail_fast", False), laws=asked.get("laws", ()),
        waivers=waivers.read(Path(asked["waivers"])) if "waivers" in asked else (), draw=drawn,
        memory=asked.get("memory"),
    )  # fmt: skip


def _tell(report: Report, out: Path, junit: Path | None, *, as_json: bool, coverage: bool) -> int:
    """Print a report and write its files."""
    if not as_json:  # before anything can go wrong with the files
        click.echo("\n".join(text.lines(report)))
        if coverage:
            click.echo("\n".join(coverage_lines(report.parts, report.options.target)))
    certificate = write_all(report, out, junit)
    if as_json:
        told = {**report_as_json(report), "certificate": str(certificate) if certificate else None}
        click.echo(json.dumps(told))
    else:
        click.echo(_closing(report, out, certificate))
    return report.exit_code()


def _writable(out: Path, junit: Path | None) -> None:
    """Find out now, not after the run.

    Raises:
        OSError: a file could not be written.
    """
    for folder in (out, *([junit.parent] if junit else [])):
        there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        tempfile.TemporaryFile(dir=there).close()


def _closing(report: Report, out: Path, certificate: Path | None) -> str:
    again = f"seed {report.seed}, results in {out}"
    if certificate:
        left = ", ".join(report.not_covered)
        but = f"; it does not cover {left}" if left else ""
        return f"{again}, certificate {certificate} of {', '.join(report.ops)}{but}"
    if report.options.shard != (1, 1) and report.status() == "PASS":
        shard = "/".join(map(str, report.options.shard))
        return f"{again}; shard {shard} holds, `lingspec report merge` gives the verdict of all"
    if report.status() == "PASS":
        return f"{again}; {report.insufficient} is not sufficient for certification"
    return again


def _explain(report: Report, out: Path) -> None:
    """The first failure of every part: smaller, named if it is a known mistake, and bundled."""
    failed = [p for p in report.parts if p.findings()]
    if not failed or report.ended:  # who stopped it waits for nothing more
        return
    with opened(report.options) as host:
        for part in failed:
            finding = part.first()
            assert finding is not None
            case, small = _smaller(host, part, finding, report)
            part.smallest = small
            if small.status == "FAIL":
                part.looks_like = nearest(host, part.part, contract(part.op), case)
            bundles.write(
                out / "bundles", case, contract(part.op).make(case), small,
                target=report.options.target, candidate=part.part.candidate.name,
                precision=part.part.profile.name, backward=report.options.backward,
            )  # fmt: skip


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
    if index is None or finding.status == "TIMEOUT" or finding.law == "integrity":
        return case, finding
    small = smaller_case(host, part.part, of, case, finding.law, seed=report.seed, index=index)
    return small, broken_by(host, part.part, of, small, finding.law) or finding
