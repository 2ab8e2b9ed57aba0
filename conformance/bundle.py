"""A failing case as one small file: inputs, the case, the finding, and how to see it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lingspec.conformance.case import Call, Case
from lingspec.conformance.contracts import UnknownOpError, contract
from lingspec.conformance.findings import Finding
from lingspec.conformance.runner.arena import identical, once
from lingspec.conformance.runner.protocol import plain, restored

__all__ = ["LARGEST", "Bundle", "BundleError", "load", "write"]

SCHEMA = "lingspec.bundle/1"
LARGEST = 1_000_000  # bytes; a larger case keeps its string alone, which makes the same inputs
_COTANGENT = "cotangent:"


class BundleError(ValueError):
    """A file that is not a whole bundle."""


@dataclass(frozen=True)
class Bundle:
    """What a bundle says."""

    case: Case
    call: Call
    target: str
    candidate: str
    precision: str
    backward: bool
    finding: Mapping[str, Any]


def write(
    folder: Path, case: Case, call: Call, finding: Finding, *, target: str, candidate: str,
    precision: str, backward: bool = False,
) -> Path:  # fmt: skip
    """Write the bundle of a finding; the file appears whole or not at all."""
    tensors = {n: x.contiguous() for n, x in call.tensors.items()}
    tensors |= {_COTANGENT + n: x.contiguous() for n, x in call.cotangents.items()}
    if sum(x.numel() * x.element_size() for x in tensors.values()) > LARGEST:
        tensors = {}
    about = {
        "schema": SCHEMA, "case": str(case), "target": target, "candidate": candidate,
        "precision": precision, "params": json.dumps(plain(call.params)),
        "finding": json.dumps(finding.__dict__),
        "backward": json.dumps(backward),
    }  # fmt: skip
    told = f"{case}/{target}/{candidate}/{precision}/{call.digest}"
    name = hashlib.sha256(told.encode()).hexdigest()[:12]
    path = folder / f"{case.op}-{finding.law}-{name}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    about["replay"] = f"lingspec replay {path}"
    part = path.with_suffix(".part")
    part.write_bytes(save(tensors, metadata=about))
    part.replace(path)
    return path


def load(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: the file is missing, truncated, or something else.
    """
    if not path.is_file():
        raise BundleError(f"no bundle {path}")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as broken:
        raise BundleError(f"{path} is not a whole bundle: {broken}") from broken
    if about.get("schema") != SCHEMA:
        raise BundleError(f"{path} has schema {about.get('schema')}, but must have {SCHEMA}")
    try:
        op = about["case"].partition(":")[0]
        case = contract(op).parse(about["case"])
        return Bundle(
            case, _call(case, about, tensors), about["target"], about["candidate"],
            about["precision"], bool(json.loads(about["backward"])), json.loads(about["finding"]),
        )  # fmt: skip
    except KeyError as missing:
        raise BundleError(f"{path} does not say its {missing.args[0]}") from missing
    except (UnknownOpError, ValueError) as unknown:
        raise BundleError(f"{path}: {unknown}") from unknown


def _call(case: Case, about: Mapping[str, str], tensors: dict[str, Any]) -> Call:
    made = contract(case.op).make(case)
    if not tensors:
        return made
    cotangents = {
        n.removeprefix(_COTANGENT): x for n, x in tensors.items() if n.startswith(_COTANGENT)
    }
    cotangents = _filled(case, made.cotangents, cotangents)
    filled = _filled(case, made.tensors, tensors)
    params = restored(json.loads(about["params"]))
    if not _alike(params, made.params):
        raise BundleError(f"bundle of {case} has params {params}, but must have {made.params}")
    return replace(made, tensors=filled, params=params, cotangents=cotangents)


def _alike(params: Any, made: Mapping[str, Any]) -> bool:
    """Whether these are the arguments of a call like ``made``: only numbers may be others."""

    def fits(x: Any, y: Any) -> bool:
        numbers = (int, float)
        return bool(x == y) or (isinstance(x, numbers) and isinstance(y, numbers))

    same = isinstance(params, dict) and params.keys() == made.keys()
    return same and all(fits(params[n], y) for n, y in made.items())


def _filled(
    case: Case, made: Mapping[str, Tensor], stored: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The stored values in the memory layout of the case."""
    for name, x in made.items():
        if name not in stored:
            raise BundleError(f"bundle of {case} lacks {name}")
        got, want = (f"{tuple(t.shape)} {t.dtype}" for t in (stored[name], x))
        if got != want:
            raise BundleError(f"bundle of {case} has {name} {got}, but must have {want}")
        cut = once(x)
        cut.copy_(stored[name].as_strided(cut.shape, stored[name].stride()))
        if not identical(x, stored[name]):
            raise BundleError(f"bundle of {case} has a {name} that the case cannot have")
    return dict(made)
