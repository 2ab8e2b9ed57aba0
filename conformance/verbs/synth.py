"""`lingspec synth`: the synthetic checkpoint, as shards on a disk or as digests."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import click

from lingspec.conformance.runner.host import TargetRefused
from lingspec.conformance.verbs.model import config_of
from lingspec.conformance.verbs.progress import progress
from lingspec.golden import synth as made
from lingspec.reference.config import LingConfig
from lingspec.reference.layout import tensors
from lingspec.reference.synthetic import recipe

__all__ = ["synth"]


def synth(what: str, *, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec synth`."""
    config = config_of(what)
    kinds = [kind for kind in ("recipes", "digests", "out") if given[kind]]
    if len(kinds) > 1:
        raise TargetRefused("usage", f"--{kinds[0]} and --{kinds[1]} are two different things")
    if not given["digests"] and (given["only"] != "*" or given["array"] != "torch"):
        raise TargetRefused("usage", "--only and --array are of --digests")
    if given["recipes"]:
        return _recipes(config, as_json=as_json)
    if given["digests"]:
        return _digests(config, given, as_json=as_json)
    if given["out"] is None:
        raise TargetRefused("usage", "say where to write it: --out FOLDER; or --digests")
    return _write(config, given, as_json=as_json)


def _recipes(config: LingConfig, *, as_json: bool) -> int:
    """How the numbers of each kind of tensor are made; layers and experts have the same."""
    found: dict[str, dict[str, Any]] = {}
    for name, shape in tensors(config):
        kind = ".".join("*" if part.isdigit() else part for part in name.split("."))
        how = recipe(config, name, shape)
        made = "1 + floor(b / 8) / 128" if how.around_one else f"(2 b + 1) 2^{how.exponent}"
        found.setdefault(kind, {"exponent": how.exponent, "aroundOne": how.around_one, "is": made})
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        for kind, told in found.items():
            click.echo(f"{told['is']:<24}{kind}")
    return 0


def _digests(config: LingConfig, given: dict[str, Any], *, as_json: bool) -> int:
    """One line a tensor, and one for all of them."""
    numpy, found, whole = given["array"] == "numpy", {}, hashlib.sha256()
    asked = made.digests(config, given["seed"], only=given["only"], numpy=numpy)
    for name, digest in asked:
        line = f"{digest}  {name}"
        whole.update(f"{line}\n".encode())
        found[name] = digest
        if not as_json:
            click.echo(line)
    if not found:
        raise TargetRefused("usage", f"no tensor matches {given['only']!r}")
    count = f"{len(found)} tensor{'' if len(found) == 1 else 's'}"
    told = {"schema": "lingspec.synth/1", "tensors": found, "all": whole.hexdigest()}
    click.echo(json.dumps(told, indent=1) if as_json else f"{told['all']}  all {count}")
    return 0


def _write(config: LingConfig, given: dict[str, Any], *, as_json: bool) -> int:
    folder, (part, parts) = given["out"], given["shard"]
    if not math.isfinite(given["shard_size"]):
        raise TargetRefused("usage", f"--shard-size is {given['shard_size']}, no number of GB")
    most = int(given["shard_size"] * 10**9)
    mine = made.shards(config, most)[part - 1 :: parts]
    if not mine:
        raise TargetRefused("usage", f"there are fewer than {part} shards")
    shapes = dict(tensors(config))
    total = sum(made.size(name, shapes[name]) for names in mine for name in names)
    room = shutil.disk_usage(_there(folder)).free
    if total > room:
        text = f"{_size(total)} are to be written, and {_size(room)} are free"
        raise TargetRefused("environment", text)
    with progress(quiet=as_json, unit="shards") as tick:
        try:
            files = made.write(
                config, given["seed"], folder, most=most, which=(part, parts), tick=tick
            )
        except FileExistsError as other:
            raise TargetRefused("usage", str(other)) from other
    if as_json:
        told = {"schema": "lingspec.synth/1", "files": [str(f) for f in files], "bytes": total}
        click.echo(json.dumps(told, indent=1))
    else:
        some = "" if parts == 1 else f", shards {part}, {part + parts}, … of all"
        click.echo(f"{folder}: {_files(len(files))}, {_size(total)}{some}")
    return 0


def _files(count: int) -> str:
    return f"{count} shard{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 10**8 else f"{count / 1e6:,.2f} MB"


def _there(folder: Path) -> Path:
    """The nearest folder that exists."""
    return next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.exists()
    )
