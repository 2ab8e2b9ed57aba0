"""`lingspec certify`: run, explain the first failure of each part, write the files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from lingspec.conformance import bundle as bundles
from lingspec.conformance import text
from lingspec.conformance.case import Case
from lingspec.conformance.certify import opened, run
from lingspec.conformance.config import defaults
from lingspec.conformance.contracts import contract
from lingspec.conformance.findings import Finding
from lingspec.conformance.looks_like import nearest
from lingspec.conformance.minimize import broken_by, smaller_case
from lingspec.conformance.output import as_json as report_as_json
from lingspec.conformance.output import write_all
from lingspec.conformance.plan import plan
from lingspec.conformance.report import Options, PartReport, Report
from lingspec.conformance.runner.host import Host
from lingspec.conformance.verbs.progress import progress

__all__ = ["certify", "device_of"]


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
    table = defaults(Path.cwd())
    asked = {**table, **{k: v for k, v in given.items() if v is not None}}
    for op in ops:
        contract(op)  # refused here if unknown
    options = Options(
        target=asked.get("target", "kernels"), ops=ops, profile=asked.get("profile", "ci"),
        device=device_of(asked.get("device")), seed=asked.get("seed"),
        precision=asked.get("precision"), backward=asked["backward"],
        workers=asked.get("workers", 1), shard=asked["shard"], timeout=asked.get("timeout", 60.0),
        fail_fast=asked["fail_fast"], laws=asked["laws"], memory=asked.get("memory"),
    )  # fmt: skip
    out = Path(asked.get("out", "lingspec-out"))
    _writable(out, junit)
    with progress(quiet=as_json) as tick:
        report = run(
            options, lambda done, total, v: tick(done, total, f"{v.law}, {v.seconds:.1f} s")
        )
    smallest, looks = _explained(report, out)
    if not as_json:  # before anything can go wrong with the files
        click.echo("\n".join(text.lines(report, looks, smallest)))
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
        return f"{again}, certificate {certificate}"
    if report.status() == "PASS":
        return f"{again}; {report.insufficient} is not sufficient for certification"
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
    if index is None or finding.status == "TIMEOUT" or finding.law == "integrity":
        return case, finding
    small = smaller_case(host, part.part, of, case, finding.law, seed=report.seed, index=index)
    return small, broken_by(host, part.part, of, small, finding.law) or finding
