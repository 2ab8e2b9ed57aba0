"""The synthetic checkpoint in the released layout: written as shards, or as digests alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from lingspec.golden.synthetic_numpy import bfloat16_bits, tensor
from lingspec.reference.config import LingConfig
from lingspec.reference.layout import FLOAT32, tensors
from lingspec.reference.synthetic import Synthetic, recipe

__all__ = ["digests", "shards", "size", "write"]

Tick = Callable[[int, int, str], None]


def size(name: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor as it is stored: bfloat16, the router's bias float32."""
    return math.prod(shape) * (4 if name.endswith(FLOAT32) else 2)


def shards(config: LingConfig, most: int) -> list[list[str]]:
    """The names of each shard: in the order of the layout, none larger than ``most`` bytes.

    A tensor that is larger has a shard of its own.
    """
    made: list[list[str]] = [[]]
    held = 0
    for name, shape in tensors(config):
        held += size(name, shape)
        if made[-1] and held > most:
            made.append([])
            held = size(name, shape)
        made[-1].append(name)
    return made


def write(
    config: LingConfig, seed: int, folder: Path, *, most: int, which: tuple[int, int] | None = None,
    tick: Tick = lambda *_: None,
) -> list[Path]:  # fmt: skip
    """Write the checkpoint: the index, then the shards that it names.

    Whoever opens it before it is whole is told which shards it lacks.

    Args:
        config: What it is a checkpoint of.
        seed:   Of the weights.
        folder: Made if it is not there.
        most:   Bytes of a shard.
        which:  (i, n): only every n-th shard, from the i-th, for one of n machines.
        tick:   Told after every shard: done, of how many, its file.

    Returns:
        The shards that were written.

    Raises:
        FileExistsError: the folder has a checkpoint of another model, seed or shard size.
    """
    weights, dealt = Synthetic(config, seed), shards(config, most)
    files = [f"model-{n + 1:05}-of-{len(dealt):05}.safetensors" for n in range(len(dealt))]
    first, step = (1, 1) if which is None else which
    mine = range(first - 1, len(dealt), step)
    config_file, says = folder / "config.json", _config(config)
    folder.mkdir(parents=True, exist_ok=True)
    if config_file.exists() and json.loads(config_file.read_text(encoding="utf-8")) != says:
        raise FileExistsError(f"{config_file} is of another model; nothing was written")
    index = folder / "model.safetensors.index.json"
    named = {name: file for file, names in zip(files, dealt, strict=True) for name in names}
    total = sum(size(name, shape) for name, shape in tensors(config))
    content = {"metadata": {"total_size": total, "synthetic_seed": seed}, "weight_map": named}
    if index.exists() and json.loads(index.read_text(encoding="utf-8")) != content:
        raise FileExistsError(f"{index} is of another seed or shard size; nothing was written")
    _json(config_file, says)
    _json(index, content)
    for done, n in enumerate(mine):
        held = {name: weights[name] for name in dealt[n]}
        fresh = folder / f".{files[n]}"
        save_file(held, fresh, metadata={"format": "pt"})
        fresh.replace(folder / files[n])
        tick(done + 1, len(mine), files[n])
    return [folder / files[n] for n in mine]


def digests(
    config: LingConfig, seed: int, *, only: str = "*", numpy: bool = False
) -> Iterator[tuple[str, str]]:
    """The SHA-256 of the bytes of every tensor, as they are stored, in the order of the layout.

    Args:
        config: What it is a checkpoint of.
        seed:   Of the weights.
        only:   A pattern that names must match.
        numpy:  Make them with NumPy in place of torch.
    """
    weights = Synthetic(config, seed)
    for name, shape in tensors(config):
        if fnmatchcase(name, only):
            raw = _in_numpy(config, name, shape, seed) if numpy else _stored(weights[name])
            yield name, hashlib.sha256(raw.data).hexdigest()


def _config(config: LingConfig) -> Any:
    """What `config.json` says, as it is read back."""
    return json.loads(json.dumps({**config.to_dict(), "torch_dtype": "bfloat16"}))


def _stored(x: Tensor) -> NDArray[Any]:
    return np.asarray(x.flatten().view(torch.uint8))


def _in_numpy(config: LingConfig, name: str, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    how = recipe(config, name, shape)
    x = tensor(name, shape, seed, exponent=how.exponent, around_one=how.around_one)
    return x if name.endswith(FLOAT32) else bfloat16_bits(x)


def _json(file: Path, content: object) -> None:
    fresh = file.with_name(f".{file.name}")
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    fresh.replace(file)
