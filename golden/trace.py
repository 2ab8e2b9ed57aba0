"""Traces: named tensors of one run of a model, in a folder.

A folder is a trace where it has a ``manifest.json``, which is written last, and the safetensors
that the manifest names; or where it has a ``trace.safetensors`` and no manifest, and perhaps a
``config.json``. `Recorder` writes the first kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lingspec.golden.names import in_order

__all__ = ["Entry", "Trace", "TraceError", "digest", "open_trace"]

SCHEMA = "lingspec.trace/1"
MANIFEST, PLAIN, CONFIG = "manifest.json", "trace.safetensors", "config.json"
# What a trace may hold: safetensors' names of dtypes, and torch's.
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
# From fine to coarse: what a model may compute in.
PRECISIONS = ("float64", "float32", "float16", "bfloat16")


class TraceError(ValueError):
    """A folder that is no trace, a trace that is damaged, or what no trace can hold."""


@dataclass(frozen=True)
class Entry:
    """What is known of a tensor before it is read."""

    dtype: str
    shape: tuple[int, ...]
    file: str
    sha256: str | None  # of its bytes; None in a folder without manifest


def open_trace(folder: str | Path) -> Trace:
    """The trace in a folder. Names, shapes and dtypes are checked now, values when they are read.

    Raises:
        TraceError: there is none; its recording did not end; a file is truncated, missing or not
            the one that the manifest names.
    """
    place = Path(folder)
    if not place.is_dir():
        raise TraceError(f"no folder {place}")
    try:
        if (place / MANIFEST).exists():
            return _recorded(place)
        if (place / PLAIN).exists():
            return _plain(place)
    except OSError as broken:
        raise TraceError(f"{place} cannot be read: {broken}") from broken
    raise TraceError(
        f"{place} has no {MANIFEST} and no {PLAIN}: it is no trace, or its recording did not end"
    )


class Trace(Mapping[str, Tensor]):
    """Names to tensors, in order. A tensor is read when it is asked for, and then checked.

    Attributes:
        folder:    Where it is.
        entries:   What is known of every tensor without reading it.
        config:    The model's configuration under the names of a `config.json`; None if not told.
        precision: What the model computed in: what the recording says; else the coarsest of the
                   tensors' dtypes; None if there are no floats.
        meta:      The rest of the manifest: versions, digests of weights and inputs, and of the
                   manifest itself; nothing in a folder without one.
    """

    def __init__(
        self, folder: Path, entries: Mapping[str, Entry], config: dict[str, Any] | None,
        precision: str | None, meta: dict[str, Any],
    ) -> None:  # fmt: skip
        self.folder, self.entries, self.config, self.meta = folder, dict(entries), config, meta
        found = {e.dtype for e in self.entries.values()}
        coarsest = [p for p in PRECISIONS if p in found][-1:]
        self.precision = precision or (coarsest[0] if coarsest else None)
        self._last: tuple[str, Any] = ("", None)  # the file that is open: mapped pages are memory
        self._check()

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        try:
            x: Tensor = self._open(entry.file).get_tensor(name)
        except (SafetensorError, OSError) as broken:
            raise TraceError(f"{self.folder / entry.file}: {name}: {broken}") from broken
        if entry.sha256 not in (None, sha256(x)):
            raise TraceError(f"{self.folder / entry.file}: {name} is not what was recorded")
        return x

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def _open(self, file: str) -> Any:
        if self._last[0] != file:
            self._last = (file, _opened(self.folder / file))
        return self._last[1]

    def _check(self) -> None:
        held: set[str] = set()
        for name, entry in sorted(self.entries.items(), key=lambda item: item[1].file):
            if entry.file != self._last[0]:
                held = set(self._open(entry.file).keys())
            file = self.folder / entry.file
            if name not in held:
                raise TraceError(f"{file} has no tensor {name}, which the manifest says it has")
            got = _header(self._open(entry.file), name, entry.file)
            if (got.dtype, got.shape) != (entry.dtype, entry.shape):
                raise TraceError(
                    f"{file}: {name} is {got.dtype} {got.shape}, but must be {entry.dtype} "
                    f"{entry.shape}, as the manifest says"
                )


def sha256(x: Tensor) -> str:
    """The digest of a tensor's bytes, rows first."""
    flat = x.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """One digest of named tensors, whatever their order: names, dtypes, shapes and values."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        x = tensors[name]
        whole.update(json.dumps([name, str(x.dtype), list(x.shape), sha256(x)]).encode())
    return f"sha256:{whole.hexdigest()}"


def seal(body: Mapping[str, Any]) -> str:
    """The digest of a manifest, without the digest in it."""
    rest = {key: value for key, value in body.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


# -- reading -------------------------------------------------------------------------------------


def _recorded(place: Path) -> Trace:
    file = place / MANIFEST
    body = _json(file)
    if body.get("schema") != SCHEMA:
        raise TraceError(f"{file} has schema {body.get('schema')!r}, but must have {SCHEMA!r}")
    if body.get("digest") != seal(body):
        raise TraceError(f"{file} is not what was recorded")
    try:
        entries = {
            str(t["name"]): Entry(
                str(t["dtype"]), tuple(map(int, t["shape"])), Path(t["file"]).name, str(t["sha256"])
            )
            for t in body["tensors"]
        }
        config, precision = body["config"], body["precision"]
    except (KeyError, TypeError, ValueError) as wrong:
        raise TraceError(f"{file} is not a trace's: {wrong!r}") from wrong
    if len(entries) != len(body["tensors"]):
        raise TraceError(f"{file} names a tensor twice")
    if not isinstance(config, dict | None) or precision not in (None, *PRECISIONS):
        told = "config must be an object, precision one of " + ", ".join(PRECISIONS)
        raise TraceError(f"{file} is not a trace's: {told}, or null")
    rest = {k: v for k, v in body.items() if k not in ("tensors", "config", "precision")}
    return Trace(place, entries, config, precision, rest)


def _plain(place: Path) -> Trace:
    handle = _opened(place / PLAIN)
    config = _json(place / CONFIG) if (place / CONFIG).exists() else None
    layers = (config or {}).get("num_hidden_layers")
    names = in_order(handle.keys(), layers if isinstance(layers, int) else None)
    return Trace(place, {n: _header(handle, n, PLAIN) for n in names}, config, None, {})


def _header(handle: Any, name: str, file: str) -> Entry:
    part = handle.get_slice(name)
    code = part.get_dtype()
    if code not in DTYPES:
        raise TraceError(f"{file}: {name} is {code}, but must be one of {', '.join(DTYPES)}")
    return Entry(DTYPES[code], tuple(part.get_shape()), file, None)


def _json(file: Path) -> dict[str, Any]:
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as broken:  # of JSON, or of UTF-8
        raise TraceError(f"{file} is not JSON: {broken}") from broken
    if not isinstance(body, dict):
        raise TraceError(f"{file} holds {type(body).__name__}, but must hold an object")
    return body


def _opened(file: Path) -> Any:
    if not file.is_file():
        raise TraceError(f"no file {file}, which the manifest names")
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as broken:
        raise TraceError(f"{file} cannot be read: {broken}") from broken
