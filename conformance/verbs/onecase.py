"""`lingspec replay` and `lingspec minimize`: one case again, and a smaller one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lingspec.conformance import bundle as bundles
from lingspec.conformance import text
from lingspec.conformance.case import Call, Case
from lingspec.conformance.certify import opened
from lingspec.conformance.config import defaults
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Verdict
from lingspec.conformance.minimize import broken_by, zeroed
from lingspec.conformance.output import as_data
from lingspec.conformance.report import Options
from lingspec.conformance.run import Part, laws_for, parts
from lingspec.conformance.runner.host import Host, TargetRefused
from lingspec.conformance.verbs.certify import device_of

__all__ = ["minimize", "replay"]


@dataclass(frozen=True)
class _Asked:
    """A case or a bundle, of a target."""

    host: Host
    parts: list[Part]
    case: Case
    call: Call | None  # of a bundle
    target: str
    how: str  # to ask again

    def judged(self, part: Part, law: str | None) -> Verdict:
        of = contract(self.case.op)
        case = self.case.with_(law=law)
        return judge_case(self.host, part.candidate, of, part.profile, case, call=self.call)


@contextmanager
def _one(case: str, given: dict[str, Any]) -> Iterator[_Asked]:
    """What a case or bundle asks; what is not given on the command line comes from the project."""
    path, table = Path(case), defaults(Path.cwd())
    target, precision, backward = given["target"], given["precision"], bool(given["backward"])
    how = {k: given[k] for k in ("precision", "backward", "device", "timeout")}
    call, name, asked = None, None, ""
    if path.suffix == ".safetensors" or _is_file(path):
        stored = bundles.load(path)
        made, call = stored.case, stored.call
        asked = text.again(target, **how)  # the bundle says the rest
        name = stored.candidate if target in (None, stored.target) else None
        target = stored.target if target is None else target
        precision, backward = precision or stored.precision, backward or stored.backward
    else:
        made = contract(case.partition(":")[0]).parse(case)
        target = str(table.get("target", "kernels")) if target is None else target
        how["precision"] = precision = precision or table.get("precision")
        asked = text.again(target, **how)
    options = Options(
        target=target, ops=(made.op,), precision=precision, backward=backward,
        device=device_of(given["device"] or table.get("device")),
        timeout=given["timeout"] or table.get("timeout", 60.0),
    )  # fmt: skip
    with opened(options) as host:
        of = contract(made.op)
        found = [
            p for c in host.candidates if c.op == made.op and name in (None, c.name)
            for p in parts(c, of, precision) if p.dtype == made.dtype
        ]  # fmt: skip
        if not found:
            raise TargetRefused("usage", f"{target!r} has nothing for {made.op} in {made.dtype}")
        yield _Asked(host, found, made, call, target, asked)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a case with many sequences is longer than a file's name may be
        return False


def replay(case: str, *, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec replay`."""
    with _one(case, given) as asked:
        laws = (asked.case.law,) if asked.case.law else laws_for(contract(asked.case.op))
        verdicts = [asked.judged(part, law) for part in asked.parts for law in laws]
    bundle = case if asked.call is not None else ""
    if as_json:
        told = [{**v.__dict__, "findings": [as_data(f) for f in v.findings]} for v in verdicts]
        click.echo(json.dumps(told))
    else:
        for v in verdicts:
            click.echo(_headline(v))
            for finding in v.findings:
                click.echo("\n".join(text.failure(finding, asked.how, bundle=bundle)))
    if any(v.findings for v in verdicts):
        return 1
    return 0 if any(v.status == "PASS" for v in verdicts) else 3


def _headline(v: Verdict) -> str:
    if v.status == "PASS":
        return f"{v.case}  PASS, worst error {v.worst:.2g} of its limit"
    return f"{v.case}  {v.status}" + (f" ({v.reason})" if v.reason else "")


def minimize(case: str, *, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec minimize`."""
    with _one(case, given) as asked:
        of, part, made = contract(asked.case.op), asked.parts[0], asked.case
        verdict = asked.judged(part, made.law)
        if not verdict.findings:
            if as_json:
                click.echo(json.dumps({"bundle": None, "status": verdict.status}))
            click.echo(f"{made} breaks nothing: {verdict.status}", err=True)
            return 3
        law, call = verdict.findings[0].law, asked.call or of.make(made)
        smaller, left = zeroed(asked.host, part, of, made, law, call)
        finding = broken_by(asked.host, part, of, made, law, smaller)
        if finding is None:  # it does not fail every time
            finding, smaller = verdict.findings[0], call
        path = bundles.write(
            given["out"] / "bundles", made, smaller, finding, target=asked.target,
            candidate=part.candidate.name, precision=part.profile.name,
            backward=asked.host.backward,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"bundle": str(path), "nonzero": left, "law": law}))
    else:
        click.echo("\n".join(text.failure(finding, "", bundle=str(path))))
        click.echo(f"  values    {left} that are not 0\n  bundle    {path}")
    return 1
