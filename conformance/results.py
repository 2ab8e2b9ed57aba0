"""A run as plain data and back: what results.json holds, so that shards can be put together."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lingspec.conformance.accuracy.profiles import UnknownProfileError, profile
from lingspec.conformance.certificate import contract_digest
from lingspec.conformance.config import ConfigError
from lingspec.conformance.contracts import UnknownOpError, contract
from lingspec.conformance.findings import Finding, Verdict
from lingspec.conformance.ledger import Ledger
from lingspec.conformance.report import Options, PartReport, Report
from lingspec.conformance.run import Part
from lingspec.conformance.runner.host import CandidateInfo
from lingspec.conformance.waivers import Waiver

__all__ = ["SCHEMA", "as_data", "inputs_as_data", "part_as_data", "read", "report_of"]

SCHEMA = "lingspec.report/2"


def as_data(finding: Finding) -> dict[str, Any]:
    """A finding for JSON, which has no infinity."""
    told = dict(finding.__dict__)
    return {**told, "excess": told["excess"] if math.isfinite(told["excess"]) else None}


def inputs_as_data(report: Report) -> dict[str, Any]:
    """What was asked, apart from the shard: equal for runs that are parts of one."""
    o = report.options
    return {
        "target": o.target, "ops": list(o.ops), "profile": o.profile, "device": o.device,
        "seed": o.seed, "precision": o.precision, "backward": o.backward, "timeout": o.timeout,
        "failFast": o.fail_fast, "laws": list(o.laws),
        "waivers": [w.as_data() for w in o.waivers],
        "contracts": {op: contract_digest(contract(op)) for op in report.ops},
    }  # fmt: skip


def part_as_data(part: PartReport) -> dict[str, Any]:
    """Every verdict of a part, before any is waived, and what it takes to draw the cases again."""
    candidate = asdict(part.part.candidate)
    del candidate["takes"], candidate["extra"]  # of the process that called it
    return {
        "candidate": candidate, "dtype": part.part.dtype, "precision": part.part.profile.name,
        "leftOut": {law: n for law, n in part.left_out.items() if n},
        "verdicts": [_verdict_as_data(v) for v in part.verdicts],
    }  # fmt: skip


def _verdict_as_data(verdict: Verdict) -> dict[str, Any]:
    told = {**verdict.__dict__, "findings": [as_data(f) for f in verdict.findings]}
    plain = Verdict(verdict.case, verdict.law, verdict.status).__dict__
    return {k: v for k, v in told.items() if k in ("case", "law", "status") or v != plain[k]}


def read(folder: Path) -> dict[str, Any]:
    """The results of a run in a folder, as data.

    Raises:
        ConfigError: there are none, or they are of another version.
        OSError: they cannot be read.
    """
    file = folder / "results.json" if folder.is_dir() else folder
    try:
        told = json.loads(file.read_bytes())
    except FileNotFoundError:
        told = f"no results {file}; `lingspec certify --out {folder}` writes them"
        raise ConfigError(told) from None
    except ValueError as broken:
        raise ConfigError(f"{file} is not JSON: {broken}") from broken
    schema = told.get("schema") if isinstance(told, dict) else None
    if schema != SCHEMA:
        raise ConfigError(f"{file} has schema {schema!r}, but must have {SCHEMA!r}")
    return dict(told)


def report_of(told: Mapping[str, Any], place: str) -> Report:
    """The report that was written as ``told``; ``place`` is where it stood, for messages.

    Raises:
        ConfigError: something is missing, or is not what `lingspec certify` writes.
    """
    try:
        asked = told["asked"]
        waivers = tuple(Waiver.of_data(w) for w in asked["waivers"])
        i, n = told["shard"]
        options = Options(
            target=asked["target"], ops=tuple(asked["ops"]), profile=asked["profile"],
            device=asked["device"], seed=asked["seed"], precision=asked["precision"],
            backward=asked["backward"], shard=(i, n), timeout=asked["timeout"],
            fail_fast=asked["failFast"], laws=tuple(asked["laws"]), waivers=waivers,
        )  # fmt: skip
        ledger = Ledger(waivers)
        parts = [_part(p["record"], ledger, shard=(i, n) != (1, 1)) for p in told["parts"]]
        return Report(
            options, told["seed"], told["subjects"], parts, ledger, told["ended"],
            told["environment"],
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as broken:
        if isinstance(broken, (ConfigError, UnknownOpError, UnknownProfileError)):
            raise ConfigError(f"{place}: {broken}") from broken
        raise ConfigError(f"{place} lacks what a run writes: {broken!r}") from broken


def _part(told: Mapping[str, Any], ledger: Ledger, *, shard: bool) -> PartReport:
    candidate = CandidateInfo(**told["candidate"], takes=None, extra={})
    contract(candidate.op)  # refused here if unknown
    part = Part(candidate, told["dtype"], profile(told["precision"]))
    verdicts = [_verdict(v) for v in told["verdicts"]]
    return PartReport(part, verdicts, Counter(told["leftOut"]), ledger, shard)


def _verdict(told: Mapping[str, Any]) -> Verdict:
    findings = [
        Finding(**{**f, "excess": math.inf if f["excess"] is None else f["excess"]})
        for f in told.get("findings", ())
    ]
    given = {key: tuple(told[key]) for key in ("killed", "applicable") if key in told}
    return Verdict(**{**told, **given, "findings": findings})
