"""Released checkpoints: sharded safetensors, read a tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lingspec.reference.config import LingConfig
from lingspec.reference.layout import CheckpointError, check, finite, some, tensors
from lingspec.reference.ops.fp8_dequantize import fp8_dequantize
from lingspec.reference.ops.fp8_quantize import scale_shape

__all__ = ["Checkpoint", "open_checkpoint"]

SCALES = ("weight_scale", "weight_scale_inv")  # compressed-tensors; DeepSeek's name
FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_FLOATS = ", ".join(FLOATS)
FP8 = "F8_E4M3"
BLOCK = (128, 128)


def open_checkpoint(folder: str | Path, config: LingConfig | None = None) -> Checkpoint:
    """The weights in a folder: ``config.json``, and safetensors in one file or in indexed shards.

    Names, shapes and dtypes of all tensors are checked now; their values are read when they are
    touched. Nothing but safetensors is opened.

    Args:
        folder: Where the files are.
        config: In place of the folder's ``config.json``.

    Raises:
        CheckpointError: a file is missing or truncated; tensors are missing, unknown, misshapen or
            of another dtype.
        ConfigError: ``config.json`` is not one of Ling 2.5.
    """
    place = Path(folder)
    if not place.is_dir():
        raise CheckpointError(f"no folder {place}")
    config = LingConfig.from_json(place / "config.json") if config is None else config
    return Checkpoint(config, _files(place))


class Checkpoint(Mapping[str, Tensor]):
    """Names to tensors. FP8 tensors come as float32, multiplied by their scales."""

    finite = True  # as it is read

    def __init__(self, config: LingConfig, files: Mapping[str, Path]) -> None:
        self.config = config
        self._handles = {file: _opened(file) for file in sorted(set(files.values()))}
        self._file = dict(files)
        self._headers = {name: self._header(name) for name in files}
        self._alone()
        self._names = dict(tensors(config))
        self._scale = self._scales()
        self._check()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return finite(name, self._read(name))

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Rows of a matrix, without reading the others."""
        if name in self._scale:
            return self[name][index]
        part = self._handles[self._file[name]].get_slice(name)
        ids = index.flatten().tolist()
        read: dict[int, Tensor] = {i: part[i : i + 1] for i in sorted(set(ids))}
        width = self._names[name][1:]
        taken = (
            torch.cat([read[i] for i in ids])
            if ids
            else torch.zeros(0, *width, dtype=FLOATS[self._headers[name][1]])
        )
        return finite(name, taken, ids).view(*index.shape, *width)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor that is not read."""
        return self._headers[name][0]

    def part(self, name: str, rows: slice) -> Tensor:
        """Neighbouring rows of a matrix, without reading the others."""
        if name in self._scale:
            return self[name][rows]
        taken: Tensor = self._handles[self._file[name]].get_slice(name)[rows]
        return finite(name, taken, range(*rows.indices(self._names[name][0])))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    # -- reading -----------------------------------------------------------------------------

    def _read(self, name: str) -> Tensor:
        x: Tensor = self._handles[self._file[name]].get_tensor(name)
        if name not in self._scale:
            return x
        scale_name, block = self._scale[name]
        scale = self._handles[self._file[scale_name]].get_tensor(scale_name).float()
        finite(scale_name, scale)
        if bool((scale < 0).any()):
            raise CheckpointError(f"{scale_name} has negative scales")
        return fp8_dequantize(x, scale, block=block, dtype=torch.float32)

    def _header(self, name: str) -> tuple[tuple[int, ...], str]:
        try:
            part = self._handles[self._file[name]].get_slice(name)
        except SafetensorError as missing:
            raise CheckpointError(
                f"{self._file[name]} has no tensor {name}, which the index says it has"
            ) from missing
        return tuple(part.get_shape()), part.get_dtype()

    # -- checking ----------------------------------------------------------------------------

    def _scales(self) -> dict[str, tuple[str, tuple[int, int] | None]]:
        """The scale of each FP8 tensor, and the block it is for."""
        found: dict[str, tuple[str, tuple[int, int] | None]] = {}
        for name, (shape, dtype) in self._headers.items():
            if dtype != FP8 or not name.endswith(".weight") or len(shape) != 2:
                continue
            stem = name.removesuffix("weight")
            scale = next((stem + s for s in SCALES if stem + s in self._headers), None)
            if scale is None:
                raise CheckpointError(f"{name} is FP8 and has no {stem}{SCALES[0]}")
            (got, kind), matrix = self._headers[scale], (shape[0], shape[1])
            if kind not in FLOATS:
                raise CheckpointError(f"{scale} has dtype {kind}, but must have {_FLOATS}")
            kinds = {scale_shape(matrix, block): block for block in (BLOCK, None)}
            if got not in kinds:
                wanted = " or ".join(map(str, kinds))
                raise CheckpointError(f"{scale} has shape {got}, but must have {wanted}")
            found[name] = scale, kinds[got]
        return found

    def _alone(self) -> None:
        """Every tensor of a file must be one that the index says is there."""
        for file, handle in self._handles.items():
            other = [name for name in handle.keys() if self._file.get(name) != file]  # noqa: SIM118
            if other:
                raise CheckpointError(
                    f"{file} has {some(other)}, which the index does not name there"
                )

    def _check(self) -> None:
        scales = {scale for scale, _ in self._scale.values()}
        held = {name: head for name, head in self._headers.items() if name not in scales}
        check(self.config, {name: shape for name, (shape, _) in held.items()})
        wrong = [
            f"{name} has dtype {dtype}, but must have {_FLOATS}"
            for name, (_, dtype) in sorted(held.items())
            if dtype not in FLOATS and name not in self._scale
        ]
        if wrong:
            raise CheckpointError(some(wrong, "; "))


def _files(place: Path) -> dict[str, Path]:
    """The file of each tensor."""
    index, single = place / "model.safetensors.index.json", place / "model.safetensors"
    if index.is_file():
        try:
            told = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = {str(name): place / str(file) for name, file in told.items()}
        except (RecursionError, ValueError, KeyError, TypeError, AttributeError) as broken:
            raise CheckpointError(f"{index} is not an index of shards: {broken!r}") from broken
        outside = sorted({str(f) for f in told.values() if Path(str(f)).name != str(f)})
        if outside:
            raise CheckpointError(f"{index} names {some(outside)}, but must name files beside it")
        lost = sorted({f.name for f in files.values() if not _is_file(f)})
        if lost:
            raise CheckpointError(f"{place} lacks {some(lost)}, which the index names")
        return files
    if single.is_file():
        return dict.fromkeys(_opened(single).keys(), single)
    raise CheckpointError(f"{place} has no {single.name} and no {index.name}")


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # no file can have such a name
        return False


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as broken:
        raise CheckpointError(f"{file} cannot be read: {broken}") from broken
