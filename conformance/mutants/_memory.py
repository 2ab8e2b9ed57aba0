"""What wrong implementations keep, or find, where they should not look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor


def scratch_is_set() -> bool:
    """Whether memory that nobody has written happens to hold a number."""
    return not bool(torch.empty(1).isnan())


def another_way(seen: set[Any], shape: Any) -> bool:
    """Whether the shapes that were seen so far are even in number: another order of summation."""
    seen.add(shape)
    return len(seen) % 2 == 0


def remembered(cache: dict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` gave for an equal key before."""
    if key not in cache:
        cache[key] = make()
    kept = cache[key]
    return tuple(x.clone() for x in kept) if isinstance(kept, tuple) else kept.clone()


def sums(*tensors: Tensor) -> tuple[Any, ...]:
    """A key that does not know the order of rows."""
    made: list[Any] = []
    for x in tensors:
        total = x.detach().double().nan_to_num().sum(0)
        size = float(x.detach().double().nan_to_num().abs().sum()) + 1e-300
        kept = (total / size * 1e9).round().flatten().tolist()
        made.append((tuple(x.shape), f"{size:.6e}", tuple(kept)))
    return tuple(made)


def as_if_contiguous(x: Tensor) -> Tensor:
    """``x`` read with the strides of a contiguous tensor of its shape."""
    return torch.as_strided(x, x.shape, torch.empty(x.shape, device="meta").stride())


def as_if_rows(x: Tensor) -> Tensor:
    """``x`` read as if the elements of the last axis lay side by side."""
    return torch.as_strided(x, x.shape, (*x.stride()[:-1], 1))


def kept_buffer(cache: dict[Any, Tensor], y: Tensor) -> Tensor:
    """``y`` in the buffer of the last call of its shape."""
    return cache.setdefault((tuple(y.shape), y.dtype), torch.empty_like(y)).copy_(y)


def as_if_aligned(x: Tensor) -> Tensor:
    """``x`` read from the last address at or before its own that 16 divides."""
    if not x.numel():
        return x
    back = x.data_ptr() % 16 // x.element_size()
    return torch.as_strided(x, x.shape, x.stride(), x.storage_offset() - back)


def on_the_object(x: Tensor, make: Callable[[], Any]) -> Any:
    """What was made of ``x`` when this tensor object was first seen, whatever it holds now."""
    if not hasattr(x, "_made"):
        x._made = make()  # type: ignore[attr-defined]
    return x._made  # type: ignore[attr-defined]


def as_if_dense_by_token(x: Tensor) -> Tensor:
    """``x`` (B, T, ...) read as contiguous if its tokens are: the batch is not asked."""
    dense = torch.empty(x.shape, device="meta").stride()
    return torch.as_strided(x, x.shape, dense) if x.stride()[1:] == dense[1:] else x
