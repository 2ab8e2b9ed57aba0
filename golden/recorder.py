"""Writing traces: tensors one by one, from any framework, to disk or to memory."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lingspec.golden.trace import (
    DTYPES,
    MANIFEST,
    PLAIN,
    PRECISIONS,
    SCHEMA,
    TraceError,
    digest,
    seal,
    sha256,
)
from lingspec.reference.config import ARCHITECTURE, LingConfig

__all__ = ["Recorder", "versions"]

SHARD = 64  # MiB
OWN = re.compile(r"[0-9]{5}-[0-9a-f]{12}\.safetensors|.*\.partial")  # files that a recording makes
# numpy arrays of types that numpy itself does not have, by name: the bits are torch's.
FOREIGN = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


class Recorder:
    """A trace in the making; it may be given as ``tap`` to a model.

        with Recorder("a folder", config=config) as trace:
            model(input_ids, tap=trace)

    Tensors go to disk in shards, and the manifest that makes a trace of them is written last and
    at once: after a kill, or an exception inside ``with``, the folder has the trace it had before,
    or none.

    Args:
        folder:    Where to write; it is made, and a trace recorded there before is replaced in the
                   end. None: tensors are kept in memory until `save`.
        config:    The model's: a `LingConfig`, or what a `config.json` says.
        precision: What the model computes in: float64, float32, float16 or bfloat16.
        weights:   Named tensors, or a digest of them that was made before.
        inputs:    What the model is given (``input_ids``, ``positions``, ``attention_mask``): the
                   first tensors of the trace.
        made_by:   What else is to be known of the run, in words.
        shard_mib: Bytes held in memory at most, in MiB, besides the largest tensor.
    """

    def __init__(
        self, folder: str | Path | None = None, *,
        config: LingConfig | Mapping[str, Any] | None = None,
        precision: str | torch.dtype | None = None,
        weights: Mapping[str, Tensor] | str | None = None,
        inputs: Mapping[str, Any] | None = None,
        made_by: Mapping[str, str] | None = None, shard_mib: float = SHARD,
    ) -> None:  # fmt: skip
        self._limit = int(shard_mib * 2**20)
        self._held: dict[str, Tensor] = {}  # where there is no folder
        self._names: set[str] = set()
        self._ended = False
        given = {name: _stored(name, x) for name, x in (inputs or {}).items()}
        self._about = {
            "config": _told(config),
            "precision": _precision(precision),
            "weights": weights if weights is None or isinstance(weights, str) else digest(weights),
            "inputs": digest(given) if given else None,
            "versions": versions(),
            "made_by": dict(made_by or {}),
        }
        _text(self._about)
        self._shards = None if folder is None else _Shards(Path(folder), self._limit)
        for name, x in given.items():
            self.add(name, x)

    def add(self, name: str, x: Any) -> None:
        """Record a tensor of torch or an array of numpy, as it is now.

        Raises:
            TraceError: the name is taken or is none; ``x`` is no tensor, or of a dtype that no
                trace holds; the trace is finished.
        """
        if self._ended:
            raise TraceError(f"{name!r} comes after the trace was saved")
        x = _stored(name, x)
        if name in self._names:
            raise TraceError(
                f"{name!r} is recorded already; tensors of another call go under a name of that "
                "call, as recorder.under('decode.0') has it"
            )
        self._names.add(name)
        if self._shards is None:
            self._held[name] = x
        else:
            self._shards.add(name, x)

    def __call__(self, name: str, x: Tensor) -> None:
        """`add`, as a tap."""
        self.add(name, x)

    def under(self, call: str) -> Callable[[str, Any], None]:
        """A tap whose names begin with ``call`` and a dot."""
        return lambda name, x: self.add(f"{call}.{name}", x)

    def save(self, folder: str | Path | None = None) -> Path:
        """Finish a trace on disk; or write one that is in memory, to ``folder``.

        Raises:
            TraceError: the trace is in memory and there is no ``folder``, or the other way round.
        """
        if self._shards is not None:
            if folder is not None and Path(folder) != self._shards.folder:
                raise TraceError(f"this trace is in {self._shards.folder}, not in {folder}")
            if not self._ended:
                self._shards.finish(self._about)
            self._ended = True
            return self._shards.folder
        if folder is None:
            raise TraceError("this trace is in memory: save needs a folder")
        shards = _Shards(Path(folder), self._limit)
        for name, x in self._held.items():
            shards.add(name, x)
        shards.finish(self._about)
        return shards.folder

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._shards is None:
            return
        if kind is None:
            self.save()
        elif not self._ended:
            self._ended = True
            self._shards.discard()


class _Shards:
    """The files of a trace. Equal tensors in equal shards have equal names."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / PLAIN).exists():
            raise TraceError(f"{folder} has a {PLAIN}, which no recording replaces")
        self._waiting: dict[str, Tensor] = {}
        self._bytes = self._count = 0
        self._tensors: list[dict[str, Any]] = []
        self._new: list[Path] = []

    def add(self, name: str, x: Tensor) -> None:
        if self._waiting and self._bytes + x.nbytes > self.limit:
            self._write()
        self._waiting[name] = x
        self._bytes += x.nbytes

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write what is left and the manifest; then remove what an earlier trace left."""
        if self._waiting:
            self._write()
        told = json.loads(_text({"schema": SCHEMA, **about, "tensors": self._tensors}))
        body: dict[str, Any] = told  # as it will be read
        body["digest"] = seal(body)
        partial = self.folder / f"{MANIFEST}.partial"
        partial.write_text(_text(body) + "\n", encoding="utf-8")
        os.replace(partial, self.folder / MANIFEST)  # noqa: PTH105 - replaces on every system
        mine = {t["file"] for t in self._tensors}
        for file in self.folder.iterdir():
            if OWN.fullmatch(file.name) and file.name not in mine:
                file.unlink()

    def discard(self) -> None:
        """Remove what this recording wrote."""
        for file in self._new:
            file.unlink(missing_ok=True)

    def _write(self) -> None:
        entries = [
            {"name": name, "dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape),
             "sha256": sha256(x)}
            for name, x in self._waiting.items()
        ]  # fmt: skip
        short = seal({"tensors": entries}).partition(":")[2][:12]
        file = self.folder / f"{self._count:05d}-{short}.safetensors"
        partial = file.with_name(f"{file.name}.partial")
        try:
            save_file(self._waiting, partial, metadata={"format": "pt"})
        except SafetensorError as unable:
            raise OSError(f"{partial} cannot be written: {unable}") from unable
        if not file.exists():
            self._new.append(file)
        os.replace(partial, file)  # noqa: PTH105 - replaces on every system
        self._tensors += [{**entry, "file": file.name} for entry in entries]
        self._waiting, self._bytes, self._count = {}, 0, self._count + 1


def _stored(name: object, x: object) -> Tensor:
    """A copy in memory, rows first."""
    if not isinstance(name, str) or not name.isprintable() or name in ("", "__metadata__"):
        raise TraceError(f"{name!r} is no name of a tensor: it must be printable text")
    if isinstance(x, np.ndarray | np.generic):
        x = _from_numpy(name, np.asarray(x))
    if not isinstance(x, Tensor):
        raise TraceError(
            f"{name} is {type(x).__name__}, but must be a tensor of torch or an array of numpy"
        )
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in DTYPES.values():
        raise TraceError(f"{name} is {dtype}, but must be one of {', '.join(DTYPES.values())}")
    if x.layout != torch.strided or x.device.type == "meta":
        raise TraceError(f"{name} is {x.layout} on {x.device}, but must be dense and have values")
    return x.detach().cpu().clone(memory_format=torch.contiguous_format)


def _from_numpy(name: str, x: np.ndarray[Any, Any]) -> Tensor:
    kind, bits = x.dtype.name, FOREIGN.get(x.dtype.name)
    try:
        if bits is not None:
            whole = np.array(x, order="C").view(bits)
            return torch.from_numpy(whole).view(getattr(torch, kind))
        return torch.from_numpy(np.array(x, dtype=x.dtype.newbyteorder("="), order="C"))
    except TypeError as wrong:
        known = ", ".join(DTYPES.values())
        raise TraceError(f"{name} is an array of {kind}, but must be one of {known}") from wrong


def _told(config: LingConfig | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A configuration under the names of a `config.json`."""
    if isinstance(config, LingConfig):
        return {"architectures": [ARCHITECTURE], **dataclasses.asdict(config)}
    return None if config is None else dict(config)


def _precision(given: str | torch.dtype | None) -> str | None:
    name = None if given is None else str(given).removeprefix("torch.")
    if name not in (None, *PRECISIONS):
        raise TraceError(f"precision is {name}, but must be one of {', '.join(PRECISIONS)}")
    return name


def versions() -> dict[str, str]:
    """Of what made a golden or a trace."""
    try:
        own = version("lingspec")
    except PackageNotFoundError:
        own = "not installed"
    return {"lingspec": own, "torch": torch.__version__, "python": platform.python_version()}


def _text(body: Mapping[str, Any]) -> str:
    try:
        return json.dumps(body, indent=1, allow_nan=False)
    except (TypeError, ValueError) as wrong:
        raise TraceError(f"a manifest cannot hold it: {wrong}") from wrong
