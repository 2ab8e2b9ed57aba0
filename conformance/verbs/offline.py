"""`lingspec cases` and `lingspec judge`: a candidate that runs elsewhere, in any language."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lingspec.conformance import text
from lingspec.conformance.accuracy.profiles import DEFAULTS, profile
from lingspec.conformance.certificate import OFFLINE, SPEC_VERSION, contract_digest
from lingspec.conformance.certify import Task, tasks_of
from lingspec.conformance.config import ConfigError
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.environment import environment
from lingspec.conformance.findings import Verdict
from lingspec.conformance.ledger import Ledger
from lingspec.conformance.offline import NOT_ASKED, Desk, Reading, Writing
from lingspec.conformance.output import as_json as report_as_json
from lingspec.conformance.output import write_all
from lingspec.conformance.report import Options, PartReport, Report
from lingspec.conformance.run import SHORT, Part, precision_of
from lingspec.conformance.runner.host import CandidateInfo
from lingspec.conformance.session import Session
from lingspec.conformance.verbs.progress import progress

__all__ = ["cases", "judge"]

SCHEMA = "lingspec.cases/1"
ASKED = ("float32", "bfloat16", "float16")  # of what an op takes, unless it is said


def cases(
    out: Path, ops: tuple[str, ...], *, files: tuple[Path, ...], profile_name: str, name: str,
    precision: str | None, seed: int | None, as_json: bool,
) -> int:  # fmt: skip
    """`lingspec cases`: hash the candidate, draw the seed, write every call."""
    for op in ops:
        contract(op)  # refused here if unknown
    if (out / "manifest.json").exists():
        raise ConfigError(f"{out} holds cases; answers to other ones would not fit them")
    subjects = _subjects(files)
    drawn = secrets.randbits(32) if seed is None else seed
    told: dict[str, Any] = {
        "schema": SCHEMA, "specVersion": SPEC_VERSION, "candidate": name, "profile": profile_name,
        "seed": drawn, "seedDrawn": seed is None, "subjects": subjects,
        "precision": {op: _precision(op, precision) for op in ops or OPS},
    }  # fmt: skip
    told["precision"] = {op: names for op, names in told["precision"].items() if names}
    told["contracts"] = {op: contract_digest(contract(op)) for op in told["precision"]}
    (out / "calls").mkdir(parents=True, exist_ok=True)
    desk = Desk(out)
    with progress(quiet=as_json) as tick:
        for _ in _asked(desk, told, Writing, tick):
            pass
    told["calls"] = desk.calls
    (out / "manifest.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    said = {"calls": len(desk.calls), "folder": str(out), "seed": drawn}
    click.echo(json.dumps(said) if as_json else (
        f"{len(desk.calls)} calls in {out}/calls, described in {out}/manifest.json; write "
        f"ID.out.safetensors beside ID.safetensors (or ID.refused.txt, saying why not), then "
        f"`lingspec judge {out}`"
    ))  # fmt: skip
    return 0


def judge(folder: Path, out: Path, *, as_json: bool) -> int:
    """`lingspec judge`: the verdict on the answers, and a certificate of the files."""
    told = _manifest(folder)
    _refuse_others(folder, told)
    desk = Desk(folder)
    reports: dict[int, PartReport] = {}
    with progress(quiet=as_json) as tick:
        for number, part, verdict in _asked(desk, told, Reading, tick):
            reports.setdefault(number, PartReport(part, ledger=Ledger(()))).verdicts.append(verdict)
    parts = [reports[n] for n in sorted(reports)]
    report = _report(desk, told, parts)
    certificate = write_all(report, out, None)
    if not told["subjects"] and certificate:  # nothing that it could be a certificate of
        certificate.unlink()
        certificate = None
    if as_json:
        where = str(certificate) if certificate else None
        click.echo(json.dumps({**report_as_json(report), "certificate": where}))
    else:
        click.echo("\n".join(text.lines(report)))
        closing = f", certificate {certificate}" if certificate else ""
        click.echo(f"seed {report.seed}, results in {out}{closing}")
    return report.exit_code()


def _report(desk: Desk, told: dict[str, Any], parts: list[PartReport]) -> Report:
    """What the answers come to; calls without one make it incomplete."""
    ended = ""
    if desk.unanswered:
        first, lacking = desk.unanswered[0], len(desk.unanswered)
        ended = f"calls without an answer end {lacking} cases, {first} the first of them"
        for part in parts:
            part.verdicts = [v for v in part.verdicts if v.status != "UNANSWERED"]
    options = Options(
        target=f"{OFFLINE}:{told['candidate']}", ops=tuple(told["precision"]),
        profile=told["profile"], device=OFFLINE, seed=None if told["seedDrawn"] else told["seed"],
    )  # fmt: skip
    return Report(options, told["seed"], told["subjects"], parts, Ledger(()), ended, environment())


def _asked(
    desk: Desk, told: dict[str, Any], kind: type[Session], tick: Any
) -> Iterator[tuple[int, Part, Verdict]]:
    """Every case of the plan, as the laws ask it; the same calls whoever asks."""
    work = list(_work(told))
    options = Options(ops=tuple(told["precision"]), profile=told["profile"])
    tasks = tasks_of(work, options, told["seed"])
    for n, task in enumerate(tasks):
        part = work[task.part]
        desk.begin(n)
        verdict = _judged(desk, part, task, kind)
        tick(n + 1, len(tasks), f"{part.candidate.op}, {task.law}")
        yield task.part, part, verdict


def _judged(desk: Desk, part: Part, task: Task, kind: type[Session]) -> Verdict:
    law = task.case.law or "authority"
    if law in NOT_ASKED:
        return Verdict(str(task.case), law, "NOT SUPPORTED", reason=NOT_ASKED[law])
    of, before = contract(part.candidate.op), len(desk.unanswered)
    host: Any = desk
    verdict = judge_case(
        host, part.candidate, of, part.profile, task.case, kind=kind,
        power=task.power and kind is Reading,
    )  # fmt: skip
    if len(desk.unanswered) > before:
        verdict.status = "UNANSWERED"
    return verdict


def _work(told: dict[str, Any]) -> Iterator[Part]:
    for op, names in told["precision"].items():
        info = CandidateInfo(
            index=0, name=told["candidate"], op=op, profile=names, backward=False, array="numpy",
            cost="native", deterministic=True, batch_invariant=False, takes=None, extra={},
            nan_safe=False,
        )  # fmt: skip
        for dtype, name in names.items():
            yield Part(info, SHORT[dtype], profile(name))


def _precision(op: str, asked: str | None) -> dict[str, str]:
    """By dtype, the profile that the candidate is held to."""
    there = [d for d in contract(op).profiles if d in ASKED] or list(contract(op).profiles)
    if contract(op).algebra.bits:
        return {"float32": "fp32"} if "float32" in there else {there[0]: DEFAULTS[there[0]]}
    named = precision_of(asked) if asked else {d: DEFAULTS[d] for d in there}
    by_dtype = dict.fromkeys(there, named) if isinstance(named, str) else named
    unknown = [d for d in by_dtype if d not in SHORT]
    if unknown:
        raise ConfigError(f"--precision names dtype {unknown[0]!r}; there are {', '.join(SHORT)}")
    for name in by_dtype.values():
        profile(name)
    return {d: name for d, name in by_dtype.items() if d in contract(op).profiles}


def _subjects(files: tuple[Path, ...]) -> list[dict[str, Any]]:
    """The candidate's files, by path and SHA-256."""
    found = []
    for path in files:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            found.append({"name": f"{OFFLINE}:{file}", "digest": {"sha256": digest}})
    return found


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / "manifest.json"
    try:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = told["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise ConfigError(f"{file} does not describe cases: {broken}") from broken
    if not known:
        raise ConfigError(f"{file} has schema {told['schema']!r}, but must have {SCHEMA!r}")
    return told


def _refuse_others(folder: Path, told: dict[str, Any]) -> None:
    """Refuse a candidate that is not the one that the cases were drawn for, and other contracts."""
    if told["specVersion"] != SPEC_VERSION:
        raise ConfigError(f"{folder} is for spec {told['specVersion']}; this is {SPEC_VERSION}")
    for op, digest in told["contracts"].items():
        if digest != contract_digest(contract(op)):
            raise ConfigError(f"{folder} was written for another contract of {op}")
    for subject in told["subjects"]:
        file = Path(subject["name"].partition(":")[2])
        now = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "gone"
        if now != subject["digest"]["sha256"]:
            raise ConfigError(f"{file} is not the file that the cases in {folder} were drawn for")
