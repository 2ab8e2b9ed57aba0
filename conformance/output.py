"""Files of a run: JSON, JUnit, certificate; and GitHub's step summary and annotations."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from lingspec.conformance.accuracy.power import REJECTIONS
from lingspec.conformance.certificate import contract_digest, statement
from lingspec.conformance.contracts import contract
from lingspec.conformance.coverage import compact, tables
from lingspec.conformance.findings import Finding
from lingspec.conformance.mustpass import SPEC_VERSION, digest
from lingspec.conformance.report import FAILURES, PartReport, Report
from lingspec.conformance.results import SCHEMA, as_data, inputs_as_data, part_as_data

__all__ = ["as_data", "as_json", "write_all"]


def as_json(report: Report) -> dict[str, Any]:
    """The whole report as plain data."""
    options = report.options
    return {
        "schema": SCHEMA,
        "specVersion": SPEC_VERSION,
        "status": report.status(),
        "exitCode": report.exit_code(),
        "problems": report.problems(),
        "ended": report.ended,
        "target": options.target,
        "profile": options.profile,
        "device": report.device,
        "seed": report.seed,
        "seedDrawn": report.seed_drawn,
        "shard": list(options.shard),
        "sufficientForCertification": report.complete,
        "requiredCases": digest(),
        "notCovered": report.not_covered,
        "environment": report.environment,
        "subjects": report.subjects,
        "waivers": [use.as_data() for use in report.waivers()],
        "coverage": tables(report.parts),
        "asked": inputs_as_data(report),
        "parts": [_part(report, p) for p in report.parts],
    }


def _part(report: Report, p: PartReport) -> dict[str, Any]:
    return {
        "op": p.op, "candidate": p.part.candidate.name, "dtype": p.part.dtype,
        "precision": p.part.profile.name, "device": report.device_of(p),
        "status": p.status(report.options.profile),
        "laws": {law: dict(counts) for law, counts in p.laws().items()},
        "power": p.power(),
        "worst": p.worst,
        "cases": len(p.verdicts),
        "notAsked": {law: n for law, n in p.left_out.items() if n},
        "missing": {law: n for law, (n, _) in p.missing(report.options.profile).items()},
        "findings": [as_data(f) for f in p.findings()],
        "waived": [{"issue": w.issue, **as_data(f)} for f, w in p.waived()],
        "shown": as_data(shown) if (shown := p.smallest or p.first()) else None,
        "looksLike": p.looks_like,
        "record": part_as_data(p),
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
        told["worst"][key] = p.worst
    for told in tables(report.parts):
        key, attributes = told["candidate"], told["attributes"]
        ops[told["op"]].setdefault("coverage", {})[key] = compact(attributes)
    waivers = [
        {**use.waiver.as_data(), "waived": use.waived}
        for use in report.waivers() if use.state == "used"
    ]  # fmt: skip
    predicate = {
        "target": report.options.target, "profile": report.options.profile,
        "device": report.device, "seed": report.seed, "environment": report.environment,
        "seedDrawn": report.seed_drawn,  # after the files were hashed
        "ops": ops, "notCovered": report.not_covered, "requiredCases": digest(),
        "rejectionsRequired": REJECTIONS, "waivers": waivers,
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
            status = p.status_of(v)
            if status in FAILURES:
                failures += 1
                told = {"type": v.status, "message": v.findings[0].text}
                found = ET.SubElement(test, "failure", told)
                found.text = _told(v.findings)
            elif status == "WAIVED":
                skipped += 1
                issues = dict.fromkeys(p.ledger.covering(p.part, f)[0].issue for f in v.findings)
                found = ET.SubElement(test, "skipped", message=f"WAIVED: {', '.join(issues)}")
                found.text = _told(v.findings)
            elif v.status in ("VOID", "NOT SUPPORTED"):
                skipped += 1
                ET.SubElement(test, "skipped", message=f"{v.status}: {v.reason}")
        suite.set("failures", str(failures))
        suite.set("skipped", str(skipped))
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True))


def _told(findings: list[Finding]) -> str:
    return "\n".join(f"{f.law}: {f.text}\n{f.where}\n{f.got_want}" for f in findings)


def _github(report: Report) -> None:
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        rows = ["| op | candidate | dtype | precision | verdict |", "|---|---|---|---|---|"]
        rows += [
            f"| {p.op} | {p.part.candidate.name} | {p.part.dtype} | {p.part.profile.name} "
            f"| {p.status(report.options.profile)} |"
            for p in report.parts
        ]
        rows += ["", *(f"- {problem}" for problem in report.problems())]
        with Path(summary).open("a") as file:
            file.write("\n".join(rows) + "\n")
    if os.environ.get("GITHUB_ACTIONS"):
        for finding in _first_findings(report):
            said = f"{finding['text']} ({finding['case']})".replace("%", "%25")
            print(f"::error title=lingspec {finding['law']}::{said}", file=sys.stderr)


def _first_findings(report: Report) -> Iterable[dict[str, Any]]:
    return (first.__dict__ for p in report.parts if (first := p.first()) is not None)


def _whole(path: Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
