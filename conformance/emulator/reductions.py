"""``tl.reduce`` and ``tl.associative_scan``, as trees of whole-tile combinations.

Each step combines tiles with the kernel's own function, so a bfloat16 or float16 sum is
rounded at every step, as compiled code rounds it. Neighbours are combined first and
their order is kept. Sums and products of float32, float64 and integers, and any max and
min, take numpy's own loops: there the order of a tree is not promised either.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.language import standard
from triton.runtime import interpreter

from .builder import narrowed, numbers
from .source import Meaning

Array = np.ndarray[Any, np.dtype[Any]]
Tensor = Any  # a triton.language.tensor
Combine = Callable[..., Any]


def tensor_of(data: Any, dtype: Any) -> Tensor:
    """Wrap an array of the held form of ``dtype``; no dimensions means a scalar."""
    data = np.asarray(data).astype(interpreter._get_np_dtype(dtype), copy=False)
    if data.ndim == 0:
        return tl.tensor(interpreter.TensorHandle(data.reshape(1), dtype), dtype)
    shape = tl.block_type(dtype, list(data.shape))
    return tl.tensor(interpreter.TensorHandle(data, dtype), shape)


def reduce(input: Any, axis: Any, combine_fn: Any, keep_dims: bool = False, **_: Any) -> Any:  # noqa: A002, the language's name
    """Reduce a tile, or a tuple of tiles, along ``axis``; None reduces all of it."""
    inputs = input if isinstance(input, tuple | tl.tuple) else (input,)
    axis, keep = _plain(axis), _plain(keep_dims)
    rank = len(inputs[0].shape)
    tiles = [t if axis is not None else tensor_of(t.handle.data.ravel(), t.dtype) for t in inputs]
    along = 0 if axis is None else _checked(axis, rank)
    numpy_loop = _numpy_reduction(combine_fn, tiles)
    if numpy_loop is not None:
        values = [numpy_loop(numbers(tiles[0].handle), axis=along)]
        reduced = [narrowed(np.asarray(values[0]), tiles[0].dtype)]
    else:
        reduced = [t.handle.data.take(0, along) for t in _tree(tiles, along, combine_fn)]
    if keep:
        shape = [1] * rank if axis is None else [*inputs[0].handle.data.shape]
        shape[along] = 1
        reduced = [r.reshape(shape) for r in reduced]
    results = tuple(tensor_of(r, t.dtype) for r, t in zip(reduced, tiles, strict=True))
    return results if isinstance(input, tuple | tl.tuple) else results[0]


def associative_scan(
    input: Any,  # noqa: A002, the language's name
    axis: Any,
    combine_fn: Any,
    reverse: bool = False,
    **_: Any,
) -> Any:
    """Combine every element with all before it along ``axis``, or all after if ``reverse``."""
    inputs = input if isinstance(input, tuple | tl.tuple) else (input,)
    along = _checked(_plain(axis), len(inputs[0].shape))
    backward = _plain(reverse)
    held = [np.flip(t.handle.data, along) if backward else t.handle.data for t in inputs]
    tiles = [tensor_of(np.ascontiguousarray(h), t.dtype) for h, t in zip(held, inputs, strict=True)]
    numpy_loop = _numpy_scan(combine_fn, tiles)
    if numpy_loop is not None:
        out = [narrowed(numpy_loop(tiles[0].handle.data, axis=along), tiles[0].dtype)]
    else:
        out = [t.handle.data for t in _scan_tree(tiles, along, combine_fn)]
    if backward:
        out = [np.ascontiguousarray(np.flip(o, along)) for o in out]
    results = tuple(tensor_of(o, t.dtype) for o, t in zip(out, tiles, strict=True))
    return results if isinstance(input, tuple | tl.tuple) else results[0]


def _tree(tiles: list[Tensor], axis: int, combine: Combine) -> list[Tensor]:
    """Combine neighbours until one element along ``axis`` is left."""
    while tiles[0].handle.data.shape[axis] > 1:
        left = [_every_other(t, axis, 0) for t in tiles]
        right = [_every_other(t, axis, 1) for t in tiles]
        tiles = _combined(combine, left, right)
    return tiles


def _scan_tree(tiles: list[Tensor], axis: int, combine: Combine) -> list[Tensor]:
    """Double the scanned runs: the last element of each left run joins all of the right."""
    data = [np.moveaxis(t.handle.data, axis, -1) for t in tiles]
    dtypes = [t.dtype for t in tiles]
    shape = data[0].shape
    run = 1
    while run < shape[-1]:
        runs = [d.reshape(*shape[:-1], shape[-1] // (2 * run), 2, run) for d in data]
        right = [tensor_of(r[..., 1, :], t) for r, t in zip(runs, dtypes, strict=True)]
        left = [
            tensor_of(np.broadcast_to(r[..., 0, -1:], r[..., 1, :].shape), t)
            for r, t in zip(runs, dtypes, strict=True)
        ]
        joined = _combined(combine, left, right)
        data = [
            np.stack([r[..., 0, :], j.handle.data], axis=-2).reshape(shape)
            for r, j in zip(runs, joined, strict=True)
        ]
        run *= 2
    return [tensor_of(np.moveaxis(d, -1, axis), t) for d, t in zip(data, dtypes, strict=True)]


def _combined(combine: Combine, left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    Meaning.combining = True
    try:
        out = combine(*left, *right)
    finally:
        Meaning.combining = False
    outs = list(out) if isinstance(out, tuple | tl.tuple) else [out]
    cast = zip(outs, left, strict=True)
    return [o if o.dtype == t.dtype else o.to(t.dtype) for o, t in cast]


def _every_other(tile: Tensor, axis: int, first: int) -> Tensor:
    index: list[Any] = [slice(None)] * tile.handle.data.ndim
    index[axis] = slice(first, None, 2)
    return tensor_of(tile.handle.data[tuple(index)], tile.dtype)


def _numpy_reduction(combine_fn: Any, tiles: list[Tensor]) -> Callable[..., Array] | None:
    floating = tiles[0].dtype.is_floating()
    if len(tiles) > 1:
        return None
    if combine_fn is standard._elementwise_max:
        return (np.fmax if floating else np.maximum).reduce
    if combine_fn is standard._elementwise_min:
        return (np.fmin if floating else np.minimum).reduce
    if combine_fn is standard._sum_combine and not _rounds_coarsely(tiles[0]):
        return np.add.reduce
    return None


def _numpy_scan(combine_fn: Any, tiles: list[Tensor]) -> Callable[..., Array] | None:
    if len(tiles) > 1 or _rounds_coarsely(tiles[0]):
        return None
    if combine_fn is standard._sum_combine:
        return np.cumsum
    return np.cumprod if combine_fn is standard._prod_combine else None


def _rounds_coarsely(tile: Tensor) -> bool:
    return tile.dtype.name in ("bf16", "fp16")


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, tl.constexpr) else value


def _checked(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a tile with {rank} dimensions")
    return axis % rank
