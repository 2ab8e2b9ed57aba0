"""Files of a run: JSON, JUnit, certificate; and GitHub's step summary and annotations."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from lingspec.conformance.accuracy.power import REJECTIONS
from lingspec.conformance.certificate import contract_digest, statement
from lingspec.conformance.contracts import contract
from lingspec.conformance.findings import Finding
from lingspec.conformance.report import Report

__all__ = ["as_data", "as_json", "environment", "write_all"]


def environment() -> dict[str, str]:
    """Versions of everything that a verdict depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("lingspec", "torch", "triton", "numpy", "hypothesis"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def as_json(report: Report) -> dict[str, Any]:
    """The whole report as plain data."""
    options = report.options
    return {
        "schema": "lingspec.report/1",
        "status": report.status(),
        "exitCode": report.exit_code(),
        "target": options.target,
        "profile": options.profile,
        "device": report.device,
        "seed": report.seed,
        "shard": list(options.shard),
        "sufficientForCertification": report.complete,
        "environment": environment(),
        "subjects": report.subjects,
        "parts": [
            {
                "op": p.op, "candidate": p.part.candidate.name, "dtype": p.part.dtype,
                "precision": p.part.profile.name, "device": report.device_of(p),
                "status": p.status(options.profile),
                "laws": {law: dict(counts) for law, counts in p.laws().items()},
                "power": p.power(),
                "worst": max((v.worst for v in p.verdicts), default=0.0),
                "cases": len(p.verdicts),
                "notAsked": {law: n for law, n in p.left_out.items() if n},
                "findings": [as_data(f) for f in p.findings()],
            }
            for p in report.parts
        ],
    }  # fmt: skip


def write_all(report: Report, folder: Path, junit: Path | None) -> Path | None:
    """Write results.json, junit.xml and, where the run may certify, the certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate = folder / "certificate.json"
    certificate.unlink(missing_ok=True)  # what an earlier run certified is not this run's
    _whole(folder / "results.json", (json.dumps(as_json(report), indent=1) + "\n").encode())
    _whole(junit or folder / "junit.xml", _junit(report))
    _github(report)
    if report.status() != "PASS" or not report.complete:
        return None
    _whole(certificate, _certificate(report))
    return certificate


def _certificate(report: Report) -> bytes:
    ops: dict[str, Any] = {}
    for p in report.parts:
        told = ops.setdefault(
            p.op,
            {"contract": contract_digest(contract(p.op)), "laws": {}, "power": {}, "worst": {},
             "device": {}},
        )  # fmt: skip
        key = f"{p.part.candidate.name}/{p.part.dtype}/{p.part.profile.name}"
        told["laws"][key] = {law: dict(c) for law, c in p.laws().items()}
        told["power"][key] = p.power()
        told["device"][key] = report.device_of(p)
        told["worst"][key] = max((v.worst for v in p.verdicts), default=0.0)
    predicate = {
        "target": report.options.target, "profile": report.options.profile,
        "device": report.device, "seed": report.seed, "environment": environment(),
        "seedDrawn": report.options.seed is None,  # after the files were hashed
        "ops": ops, "rejectionsRequired": REJECTIONS, "waivers": [],
    }  # fmt: skip
    return statement(report.subjects, predicate)


def _junit(report: Report) -> bytes:
    suites = ET.Element("testsuites", name="lingspec")
    for p in report.parts:
        name = f"{p.op}.{p.part.candidate.name}.{p.part.dtype}.{p.part.profile.name}"
        suite = ET.SubElement(suites, "testsuite", name=name, tests=str(len(p.verdicts)))
        properties = ET.SubElement(suite, "properties")
        for key, value in (
            ("seed", report.seed),
            ("profile", report.options.profile),
            ("device", report.device_of(p)),
        ):
            ET.SubElement(properties, "property", name=key, value=str(value))
        failures = skipped = 0
        for v in p.verdicts:
            test = ET.SubElement(
                suite, "testcase", classname=f"{name}.{v.law}", name=v.case, time=f"{v.seconds:.3f}"
            )
            if v.findings:
                failures += 1
                found = {"type": v.status, "message": v.findings[0].text}
                ET.SubElement(test, "failure", found).text = "\n".join(
                    f"{f.status} {f.law}: {f.text}\n{f.where}\n{f.got_want}" for f in v.findings
                )
            elif v.status in ("VOID", "NOT SUPPORTED"):
                skipped += 1
                ET.SubElement(test, "skipped", message=f"{v.status}: {v.reason}")
        suite.set("failures", str(failures))
        suite.set("skipped", str(skipped))
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True))


def _github(report: Report) -> None:
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        rows = ["| op | candidate | dtype | precision | verdict |", "|---|---|---|---|---|"]
        rows += [
            f"| {p.op} | {p.part.candidate.name} | {p.part.dtype} | {p.part.profile.name} "
            f"| {p.status(report.options.profile)} |"
            for p in report.parts
        ]
        with Path(summary).open("a") as file:
            file.write("\n".join(rows) + "\n")
    if os.environ.get("GITHUB_ACTIONS"):
        for finding in _first_findings(report):
            said = f"{finding['text']} ({finding['case']})".replace("%", "%25")
            print(f"::error title=lingspec {finding['law']}::{said}", file=sys.stderr)


def _first_findings(report: Report) -> Iterable[dict[str, Any]]:
    return (first.__dict__ for p in report.parts if (first := p.first()) is not None)


def as_data(finding: Finding) -> dict[str, Any]:
    """A finding for JSON, which has no infinity."""
    told = dict(finding.__dict__)
    return {**told, "excess": told["excess"] if math.isfinite(told["excess"]) else None}


def _whole(path: Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
