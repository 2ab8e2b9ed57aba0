"""Goldens of whole runs of the model: one file of arrays and one manifest for each layer origin.

The arrays hold the summaries of all tensors, one after another in the order of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lingspec.golden.full_size import Asked, Outcome
from lingspec.golden.recorder import versions
from lingspec.golden.store import DATA
from lingspec.golden.summary import Summary

__all__ = ["GoldenError", "Stored", "named", "names", "read", "write"]

SCHEMA = "lingspec.golden.model/1"
PLACE = DATA / "model"


class GoldenError(ValueError):
    """A golden that is not there, or that is not what was written."""


@dataclass
class Stored:
    """A golden that was read."""

    name: str
    manifest: dict[str, Any]
    outcome: Outcome

    @property
    def asked(self) -> Asked:
        """What was run."""
        told = self.manifest["asked"]
        return Asked(**{**told, "dtype": getattr(torch, told["dtype"])})

    @property
    def origin(self) -> int:
        """The layer origin of the decay."""
        return int(self.manifest["decay_layer_origin"])


def named(asked: Asked, origin: int) -> str:
    """The name of the golden of a run."""
    return f"{asked.preset}.origin-{origin}"


def names() -> list[str]:
    """The goldens that there are."""
    return sorted(file.name.removesuffix(".json") for file in PLACE.glob("*.json"))


def write(
    asked: Asked, origin: int, outcome: Outcome, *, reason: str, cost: dict[str, float],
    place: Path | None = None,
) -> Path:  # fmt: skip
    """Store a run; ``reason`` says why. The manifest is written last, in one move."""
    name, arrays = named(asked, origin), save(_arrays(outcome))
    told = {**asdict(asked), "dtype": str(asked.dtype).removeprefix("torch.")}
    manifest = {
        "schema": SCHEMA, "asked": told, "decay_layer_origin": origin,
        "input_ids": outcome.input_ids[0].tolist(), "reason": reason,
        "arrays": hashlib.sha256(arrays).hexdigest(),
        "made_by": {**versions(), "machine": platform.machine(), **cost},
        "tensors": {n: list(s.shape) for n, s in outcome.summaries.items()},
        "routing": {n: list(x.shape) for n, x in outcome.routing.items()},
        "noise": outcome.noise,
    }  # fmt: skip
    place = place or PLACE
    place.mkdir(parents=True, exist_ok=True)
    for ending, content in ((".safetensors", arrays), (".json", _text(manifest).encode())):
        fresh = place / f".{name}{ending}"
        fresh.write_bytes(content)
        fresh.replace(place / f"{name}{ending}")
    return place / f"{name}.json"


def read(name: str, place: Path | None = None) -> Stored:
    """A golden by its name.

    Raises:
        GoldenError: there is none, or its files do not belong together.
    """
    file = (place or PLACE) / f"{name}.json"
    if not file.is_file():
        raise GoldenError(f"no golden {name!r}; there are {', '.join(names()) or 'none'}")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        raw = file.with_suffix(".safetensors").read_bytes() if manifest["schema"] == SCHEMA else b""
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise GoldenError(f"{file} cannot be read: {broken!r}") from broken
    if not raw:
        raise GoldenError(f"{file} has schema {manifest['schema']!r}, but must have {SCHEMA!r}")
    if hashlib.sha256(raw).hexdigest() != manifest["arrays"]:
        raise GoldenError(f"{file.with_suffix('.safetensors')} is not what {file.name} describes")
    try:
        return Stored(name, manifest, _outcome(manifest, load(raw)))
    except (SafetensorError, KeyError, RuntimeError) as broken:
        raise GoldenError(f"{file} cannot be read: {broken!r}") from broken


PARTS = ("rows", "blocks", "places", "values")


def _arrays(outcome: Outcome) -> dict[str, Tensor]:
    every = list(outcome.summaries.values())
    made = {"sketch": torch.stack([s.sketch for s in every])}
    for part in PARTS:
        each = [getattr(s, part) for s in every]
        made[part] = torch.cat(each)
        made[f"{part}.sizes"] = torch.tensor([len(x) for x in each], dtype=torch.int32)
    if outcome.routing:
        made["routing"] = torch.cat([x.flatten() for x in outcome.routing.values()]).short()
    for name in ("logits", "top_values", "top_ids"):
        if (x := getattr(outcome, name)) is not None:
            made[name] = x
    return made


def _outcome(manifest: dict[str, Any], arrays: dict[str, Tensor]) -> Outcome:
    cut = {part: torch.split(arrays[part], arrays[f"{part}.sizes"].tolist()) for part in PARTS}
    summaries = {
        name: Summary(tuple(shape), arrays["sketch"][n], *(cut[part][n] for part in PARTS))
        for n, (name, shape) in enumerate(manifest["tensors"].items())
    }
    shapes = manifest["routing"]
    sizes = [int(torch.tensor(shape).prod()) for shape in shapes.values()]
    flat = torch.split(arrays.get("routing", torch.zeros(0)).long(), sizes)
    routing = {name: x.view(shape) for (name, shape), x in zip(shapes.items(), flat, strict=True)}
    last = {name: arrays.get(name) for name in ("logits", "top_values", "top_ids")}
    ids = torch.tensor([manifest["input_ids"]])
    return Outcome(ids, summaries, routing, noise=manifest["noise"], **last)


def _text(manifest: dict[str, Any]) -> str:
    """JSON, one tensor a line."""
    lines = []
    for key, value in manifest.items():
        if isinstance(value, dict) and key in ("tensors", "routing", "noise"):
            inner = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f'"{key}": {{\n  {inner}\n }}')
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    return "{\n " + ",\n ".join(lines) + "\n}\n"
