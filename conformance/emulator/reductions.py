"""``tl.reduce`` and ``tl.associative_scan``, as trees of whole-tile combinations.

Each step combines tiles with the kernel's own function, so a bfloat16 or float16 sum is
rounded at every step, as compiled code rounds it. Neighbours are combined first and
their order is kept. Sums and products of float32, float64 and integers, and any max and
min, take numpy's own loops: there the order of a tree is not promised either.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import triton.language as tl
from triton.language import standard
from triton.runtime import interpreter

from .builder import narrowed, widened
from .source import Meaning

Array = np.ndarray[Any, np.dtype[Any]]
Tensor = Any  # a triton.language.tensor
Combine = Callable[..., Any]


def computed(function: Callable[..., Array], dtype: Any, shape: Sequence[int], *of: Tensor) -> Any:
    """The tile, or for no ``shape`` the scalar, that ``function`` makes of values as held."""
    builder = interpreter.interpreter_semantic.builder
    handle = builder.compute(dtype, function, *[t.handle for t in of])
    return tl.tensor(handle, tl.block_type(dtype, list(shape)) if shape else dtype)


def shape_of(tile: Tensor) -> tuple[int, ...]:
    """The sizes of a tile; none of a scalar."""
    return tuple(tile.type.get_block_shapes()) if tile.type.is_block() else ()


def reduce(input: Any, axis: Any, combine_fn: Any, keep_dims: bool = False, **_: Any) -> Any:  # noqa: A002, the language's name
    """Reduce a tile, or a tuple of tiles, along ``axis``; None reduces all of it."""
    inputs = input if isinstance(input, tuple | tl.tuple) else (input,)
    axis, keep = _plain(axis), _plain(keep_dims)
    shape = shape_of(inputs[0])
    along, tiles = 0, list(inputs)
    if axis is None:
        tiles = [computed(np.ravel, t.dtype, (math.prod(shape),), t) for t in inputs]
    else:
        along = _checked(axis, len(shape))
    left = [1 if axis is None or n == along else size for n, size in enumerate(shape)]
    if not keep:
        left = [] if axis is None else [*shape[:along], *shape[along + 1 :]]
    numpy_loop = _numpy_reduction(combine_fn, tiles)
    if numpy_loop is not None:
        dtype = tiles[0].dtype

        def looped(data: Array) -> Array:
            values = np.asarray(numpy_loop(widened(data, dtype), axis=along))
            return narrowed(values, dtype).reshape(left)

        results: tuple[Tensor, ...] = (computed(looped, dtype, left, tiles[0]),)
    else:
        trees = _tree(tiles, along, combine_fn)
        results = tuple(
            computed(lambda data: data.take(0, along).reshape(left), t.dtype, left, t)
            for t in trees
        )
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
    shape = shape_of(inputs[0])
    along = _checked(_plain(axis), len(shape))

    def flipped(data: Array) -> Array:
        return np.flip(data, along).copy()

    def turned(tiles: Iterable[Tensor]) -> list[Tensor]:
        if not _plain(reverse):
            return list(tiles)
        return [computed(flipped, t.dtype, shape, t) for t in tiles]

    tiles = turned(inputs)
    numpy_loop = _numpy_scan(combine_fn, tiles)
    if numpy_loop is not None:
        dtype = tiles[0].dtype

        def looped(data: Array) -> Array:
            return narrowed(numpy_loop(data, axis=along), dtype)

        out = [computed(looped, dtype, shape, tiles[0])]
    else:
        out = _scan_tree(tiles, along, combine_fn)
    results = tuple(turned(out))
    return results if isinstance(input, tuple | tl.tuple) else results[0]


def _tree(tiles: list[Tensor], axis: int, combine: Combine) -> list[Tensor]:
    """Combine neighbours until one element along ``axis`` is left."""
    while shape_of(tiles[0])[axis] > 1:
        left = [_every_other(t, axis, 0) for t in tiles]
        right = [_every_other(t, axis, 1) for t in tiles]
        tiles = _combined(combine, left, right)
    return tiles


def _scan_tree(tiles: list[Tensor], axis: int, combine: Combine) -> list[Tensor]:
    """Double the scanned runs: the last element of each left run joins all of the right."""
    *before, length = shape = np.moveaxis(np.empty(shape_of(tiles[0])), axis, -1).shape
    data = [computed(lambda d: np.moveaxis(d, axis, -1), t.dtype, shape, t) for t in tiles]
    run = 1
    while run < length:
        runs = (*before, length // (2 * run), 2, run)
        half = (*runs[:-2], run)

        def left(d: Array, runs: Any = runs, half: Any = half) -> Array:
            return np.broadcast_to(d.reshape(runs)[..., 0, -1:], half)

        def right(d: Array, runs: Any = runs) -> Array:
            return d.reshape(runs)[..., 1, :]

        def join(d: Array, joined: Array, runs: Any = runs) -> Array:
            return np.stack([d.reshape(runs)[..., 0, :], joined], axis=-2).reshape(shape)

        joined = _combined(
            combine,
            [computed(left, d.dtype, half, d) for d in data],
            [computed(right, d.dtype, half, d) for d in data],
        )
        data = [computed(join, d.dtype, shape, d, j) for d, j in zip(data, joined, strict=True)]
        run *= 2
    whole = shape_of(tiles[0])
    return [computed(lambda d: np.moveaxis(d, -1, axis), d.dtype, whole, d) for d in data]


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
    shape = list(shape_of(tile))
    index: list[Any] = [slice(None)] * len(shape)
    index[axis] = slice(first, None, 2)
    shape[axis] //= 2
    return computed(lambda data: data[tuple(index)], tile.dtype, shape, tile)


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
