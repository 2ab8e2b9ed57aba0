"""`lingspec golden`: outputs of the reference that are kept as authority."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import click

from lingspec.conformance.runner.host import TargetRefused
from lingspec.conformance.verbs.progress import Tick, progress
from lingspec.golden import model_store, store
from lingspec.golden.full_size import Asked, full_size
from lingspec.golden.recompute import recomputed

__all__ = ["check", "listed", "record"]


def listed(*, as_json: bool) -> int:
    """`lingspec golden list`."""
    told = [{"name": e.name, "agreement": e.agreement, "because": e.because} for e in store.ENTRIES]
    for name in model_store.names():
        manifest = _read(name).manifest
        asked, by = manifest["asked"], manifest["made_by"]
        what = f"{asked['prompt']} tokens and {asked['steps']} steps in {asked['dtype']}"
        took = f"{by['minutes']} minutes and {by['peakGiB']} GiB with the other layer origin"
        told.append({"name": name, "agreement": "noise", "because": f"{what}; it took {took}"})
    lines = [f"{one['name']}  {one['agreement']}: {one['because']}" for one in told]
    click.echo(json.dumps(told, indent=1) if as_json else "\n".join(lines))
    return 0


def check(names: tuple[str, ...], *, layers: int | None, as_json: bool) -> int:
    """`lingspec golden check`: of the ops, or of the runs that are named."""
    found: dict[str, list[str]] = {}
    if layers is not None and not names:
        raise TargetRefused("usage", "--layers is of a run of the model: name it with --golden")
    for entry in () if names else store.ENTRIES:
        told = store.check(entry)
        found[entry.name] = [] if told is None else [told]
    for name in () if names else model_store.names():
        _read(name)  # its files are whole; to make it again it must be named
    with progress(quiet=as_json, unit="layers") as tick:
        stored = [_read(n) for n in names]
        deep = min((_depth(one) for one in stored), default=0)
        if layers is not None and layers > deep:
            raise TargetRefused("usage", f"--layers is {layers}, but the model has {deep}")
        again = recomputed(stored, layers=layers, done=_layers(tick, layers))
        for one, different, count in again:
            found[f"{one.name}, {count} tensors"] = [str(d) for d in different]
    wrong = [line for lines in found.values() for line in lines]
    if as_json:
        click.echo(json.dumps({"schema": "lingspec.golden.check/1", "found": found}, indent=1))
    else:
        for name, lines in found.items():
            click.echo(f"{name}: {lines[0] if lines else 'comes out as stored'}")
            if lines[1:]:
                click.echo(f"  and {len(lines) - 1} more, the last: {lines[-1]}")
    return 1 if wrong else 0


def record(preset: str, *, reason: str, out: Path | None, as_json: bool, given: Any) -> int:
    """`lingspec golden record`: the model at its true size, both layer origins."""
    asked, began = Asked(preset=preset, **given), time.monotonic()
    with progress(quiet=as_json, unit="layers") as tick:
        outcomes = full_size(asked, done=_layers(tick, None))
    cost = {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "peakGiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    files = [
        model_store.write(asked, origin, outcome, reason=reason, cost=cost, place=out)
        for origin, outcome in outcomes.items()
    ]
    told = {"schema": "lingspec.golden.record/1", "files": [str(f) for f in files], **cost}
    lines = [str(f) for f in files] + [f"{cost['minutes']} minutes, {cost['peakGiB']} GiB at most"]
    click.echo(json.dumps(told, indent=1) if as_json else "\n".join(lines))
    return 0


def _layers(tick: Tick, most: int | None) -> Any:
    """Progress of a run, layer by layer."""
    return lambda done, of: tick(done, most or of, f"layer {done - 1} done")


def _depth(stored: model_store.Stored) -> int:
    """Layers that the golden has something of."""
    numbered = [name.split(".")[1] for name in stored.outcome.summaries if "layers." in name]
    return 1 + max(map(int, numbered))


def _read(name: str) -> model_store.Stored:
    try:
        return model_store.read(name)
    except model_store.GoldenError as wrong:
        raise TargetRefused("usage", str(wrong)) from wrong
