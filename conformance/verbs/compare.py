"""`lingspec compare`: two traces of one call, and where they part."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import click

from lingspec.conformance.runner.host import TargetRefused
from lingspec.conformance.verbs.divergence import lines
from lingspec.conformance.verbs.progress import progress
from lingspec.golden.compare import Comparison
from lingspec.golden.compare import compare as compared
from lingspec.golden.measure import Difference
from lingspec.golden.names import parsed
from lingspec.golden.trace import Trace, TraceError

__all__ = ["compare"]


def compare(a: Path, b: Path, *, limit: float | None, as_json: bool, everything: bool) -> int:
    """`lingspec compare`."""
    try:
        with progress(quiet=as_json, unit="tensors") as tick:
            found = compared(a, b, limit, tick=tick)
    except TraceError as wrong:
        raise TargetRefused("usage", str(wrong)) from wrong
    if as_json:
        click.echo(json.dumps(_data(found), indent=1, allow_nan=False))
    else:
        click.echo("\n".join(lines(found, everything=everything)))
    return found.exit_code


def _data(found: Comparison) -> dict[str, Any]:
    before, after = found.around()
    return {
        "schema": "lingspec.compare/1",
        "status": found.status, "exitCode": found.exit_code,
        "a": _side(found.a), "b": _side(found.b),
        "limit": found.limit, "because": found.because,
        "inputs": list(found.inputs), "config": list(found.config),
        "missingInA": list(found.missing_a), "missingInB": list(found.missing_b),
        "compared": len(found.differences), "beyond": len(found.beyond),
        "first": None if found.first is None else {
            **_plain(found.first, rows=True), "before": len(before),
            "after": {"tensors": len(after), "beyond": sum(d.beyond for d in after)},
        },
        "tensors": [_plain(d) for d in found.differences],
    }  # fmt: skip


def _side(trace: Trace) -> dict[str, Any]:
    told = {"folder": str(trace.folder), "precision": trace.precision, "tensors": len(trace)}
    return {**told, **{key: x for key, x in trace.meta.items() if key != "schema"}}


def _plain(found: Difference, *, rows: bool = False) -> dict[str, Any]:
    """A difference, with its name in parts; ``rows``: with the first that are off."""
    of, told = parsed(found.name), dataclasses.asdict(found)
    if not rows:
        del told["off_rows"]
    return {"call": of.call, "layer": of.layer, "kind": of.kind, **_words(told)}


def _words(value: Any) -> Any:
    """Keys as in all of lingspec's JSON; numbers that JSON has no word for as text."""
    if isinstance(value, dict):
        return {_camel(key): _words(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_words(x) for x in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part.capitalize() for part in rest)
