"""`lingspec replay` and `lingspec minimize`: one case again, and a smaller one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from lingspec.conformance import bundle as bundles
from lingspec.conformance import text
from lingspec.conformance.case import Call, Case
from lingspec.conformance.certify import Options, opened
from lingspec.conformance.config import defaults
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Verdict
from lingspec.conformance.minimize import broken_by, zeroed
from lingspec.conformance.output import as_data
from lingspec.conformance.run import Part, laws_for, parts
from lingspec.conformance.runner.host import Host, TargetRefused
from lingspec.conformance.verbs.certify import device_of

__all__ = ["minimize", "replay"]


@contextmanager
def _one(
    case: str, given: dict[str, Any]
) -> Iterator[tuple[Host, list[Part], Case, Call | None, str]]:
    """A host and the parts that a case or bundle names."""
    call: Call | None = None
    path, table = Path(case), defaults(Path.cwd())
    target, name = given.get("target"), None
    precision, backward = given.get("precision"), bool(given.get("backward"))
    if path.suffix == ".safetensors" or _is_file(path):
        stored = bundles.load(path)
        made, call = stored.case, stored.call
        target = target or stored.target
        precision, backward = precision or stored.precision, backward or stored.backward
        name = stored.candidate if target == stored.target else None
    else:
        made = contract(case.partition(":")[0]).parse(case)
        target = target or str(table.get("target", "kernels"))
        precision = precision or table.get("precision")
    options = Options(
        target=target, ops=(made.op,), precision=precision, backward=backward,
        device=device_of(given.get("device") or table.get("device")),
        timeout=given.get("timeout") or table.get("timeout", 60.0),
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
