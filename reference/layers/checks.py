"""What every layer refuses: activations, positions and a cache that do not fit it.

Letters: B batch, T tokens, S tokens seen, D hidden size, H heads, K head dim, Z width of a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lingspec.reference.cache import LatentCache, LightningCache
from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.precision import check_float, same

__all__ = ["check_cache", "check_input", "check_like", "check_positions"]

INTEGERS = (torch.int32, torch.int64)


def check_input(x: Any, config: LingConfig, name: str = "x") -> None:
    """Refuse activations that are not (B, T, D) of floats."""
    shape, D = tuple(x.shape), config.hidden_size
    require(len(shape) == 3 and shape[2] == D, name, "shape", shape, f"(B, T, {D})")
    check_float(x, name)


def check_like(x: Any, name: str, other: Any) -> None:
    """Refuse what has not the shape, the dtype and the device of the input ``other``."""
    same(x, name, other, "x")
    _beside(x, name, other)


def check_positions(positions: Any, x: Any) -> None:
    """Refuse positions that are not integers >= 0, one for each token of ``x``, and beside it."""
    if not isinstance(positions, Tensor):  # numbers that carry their errors
        return
    name, want = "positions", tuple(x.shape[:2])
    require(tuple(positions.shape) == want, name, "shape", tuple(positions.shape), f"{want}, as x")
    require(positions.dtype in INTEGERS, name, "dtype", positions.dtype, "int32 or int64")
    _beside(positions, name, x)
    least = int(positions.min()) if positions.numel() and not positions.is_meta else 0
    require(least >= 0, name, "values", least, "integers >= 0")


def check_cache(
    cache: LightningCache | LatentCache | None, x: Any, config: LingConfig, layer: int
) -> None:
    """Refuse the cache of another kind of layer, of another batch, or of another dtype."""
    if cache is None:
        return
    kind = LatentCache if config.is_mla(layer) else LightningCache
    got = type(cache).__name__
    require(isinstance(cache, kind), "cache", "type", got, f"{kind.__name__}, of layer {layer}")
    B = x.shape[0]
    if isinstance(cache, LatentCache):
        name, held, dtype = "cache.rows", cache.rows, x.dtype
        width = config.kv_lora_rank + config.qk_rope_head_dim
        ok, want = _is(held, (B, None, width)), f"({B}, S, {width})"
    else:
        name, held = "cache.state", cache.state
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        sizes = (B, config.num_attention_heads, config.head_dim, config.head_dim)
        ok, want = _is(held, sizes), f"{sizes}"
    require(ok, name, "shape", tuple(held.shape), want)
    require(held.dtype == dtype, name, "dtype", held.dtype, f"{dtype}, as x asks for")
    _beside(held, name, x)


def _is(held: Any, sizes: tuple[int | None, ...]) -> bool:
    """Whether ``held`` has these sizes; None stands for any."""
    pairs = zip(held.shape, sizes, strict=False)
    return len(held.shape) == len(sizes) and all(want in (None, got) for got, want in pairs)


def _beside(held: Any, name: str, x: Any) -> None:
    if isinstance(held, Tensor) and isinstance(x, Tensor):
        require(held.device == x.device, name, "device", held.device, f"{x.device}, as x")
