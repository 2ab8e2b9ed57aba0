"""What one run of the model is given, checked, and what follows from it.

Letters: B batch, T tokens, S tokens seen, D hidden size.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.reference.cache import HybridCache
from lingspec.reference.checks import require
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.moe_block import Tap, silent

__all__ = ["Call", "Ready", "ready"]

INTEGERS = (torch.int32, torch.int64)


@dataclass(frozen=True)
class Call:
    """One run, among those that share a pass over the weights.

    Args:
        input_ids:          (B, T) integers below the vocabulary's size.
        positions:          (B, T) integers >= 0; by default they count on from the cache. With a
                            cache they must: from where it ends, one more at each token.
        attention_mask:     (B, S) of 0 and 1 over all tokens seen, 0 at padding, which lies on the
                            left. By default nothing is padding that was not before.
        cache:              What was seen before; it is brought up to date. None: nothing was.
                            Several calls may have one cache: each goes on from the one before it.
        tap:                Sees every named tensor, in order, and may return another in its place.
        decay_layer_origin: In place of the configuration's.
    """

    input_ids: Tensor
    positions: Tensor | None = None
    attention_mask: Tensor | None = None
    cache: HybridCache | None = None
    tap: Tap = silent
    decay_layer_origin: int | None = None


@dataclass
class Ready:
    """A call that was checked, and its activations on their way through the layers."""

    config: LingConfig
    input_ids: Tensor
    positions: Tensor
    valid: Tensor  # (B, S)
    cache: HybridCache | None
    tap: Tap
    x: Tensor  # (B, T, D); empty until the embeddings are there


def ready(call: Call, config: LingConfig, dtype: torch.dtype, device: torch.device) -> Ready:
    """Check a call, and note in its cache which tokens it brings.

    Raises:
        ContractError: an argument is not as `Call` says, or not that of the cache.
    """
    if call.decay_layer_origin is not None:
        config = dataclasses.replace(config, decay_layer_origin=call.decay_layer_origin)
    ids, cache = call.input_ids, call.cache
    require(callable(call.tap), "tap", "type", type(call.tap).__name__, "a function")
    _check_ids(ids, config, device)
    if cache is not None:
        _check_cache(cache, config, len(ids), dtype)
    valid = _valid(ids, call.attention_mask, cache)
    positions = _positions(ids, call.positions, valid, cache)
    if cache is not None:
        cache.saw(positions, valid)
    return Ready(config, ids, positions, valid, cache, call.tap, torch.empty(0, dtype=dtype))


def _check_ids(ids: Tensor, config: LingConfig, device: torch.device) -> None:
    require(isinstance(ids, Tensor), "input_ids", "type", type(ids).__name__, "Tensor")
    told = (tuple(ids.shape), ids.dtype)
    ok = ids.dim() == 2 and ids.dtype in INTEGERS
    require(ok, "input_ids", "shape and dtype", told, "(B, T) of int32 or int64")
    require(ids.device == device, "input_ids", "device", ids.device, f"{device}, as the weights")
    size = config.vocab_size
    wrong = ids[(ids < 0) | (ids >= size)].tolist()
    require(not wrong, "input_ids", "values", wrong[:3], f"integers from 0 to {size - 1}")


def _check_cache(cache: HybridCache, config: LingConfig, batch: int, dtype: torch.dtype) -> None:
    kind = type(cache).__name__
    require(isinstance(cache, HybridCache), "cache", "type", kind, "HybridCache, of new_cache")
    if cache.config != config:
        name = next(
            f.name for f in dataclasses.fields(config)
            if getattr(cache.config, f.name) != getattr(config, f.name)
        )  # fmt: skip
        got, want = getattr(cache.config, name), getattr(config, name)
        require(False, "cache", name, got, f"{want}, as the model")
    held = len(cache.valid)
    require(held == batch, "cache", "batch", held, f"{batch}, as input_ids")
    require(cache.dtype == dtype, "cache", "dtype", cache.dtype, f"{dtype}, as the weights")


def _valid(ids: Tensor, mask: Tensor | None, cache: HybridCache | None) -> Tensor:
    """(B, S) bool: False at padding, of all tokens seen."""
    B, T = ids.shape
    before = torch.zeros(B, 0, dtype=torch.bool) if cache is None else cache.valid
    if mask is None:
        return torch.cat([before, torch.ones(B, T, dtype=torch.bool)], dim=1)
    name, shape = "attention_mask", (B, before.shape[1] + T)
    ok = isinstance(mask, Tensor) and not mask.is_complex()
    require(ok, name, "type", type(mask).__name__, "Tensor of 0 and 1")
    require(tuple(mask.shape) == shape, name, "shape", tuple(mask.shape), f"{shape}")
    valid = mask == 1
    require(bool((valid | (mask == 0)).all()), name, "values", _some(mask), "0 and 1")
    never_falls = bool((valid[:, 1:] | ~valid[:, :-1]).all())
    require(never_falls, name, "rows", _some(mask), "padding on the left only")
    same = torch.equal(valid[:, : before.shape[1]], before)
    require(same, name, "rows", _some(mask), "what the cache was filled with")
    return valid


def _positions(
    ids: Tensor, positions: Tensor | None, valid: Tensor, cache: HybridCache | None
) -> Tensor:
    B, T = ids.shape
    due = torch.zeros(B, dtype=torch.int64) if cache is None else cache.due
    if positions is None:
        return due[:, None] + torch.arange(T)
    name = "positions"
    require(isinstance(positions, Tensor), name, "type", type(positions).__name__, "Tensor")
    shape = tuple(positions.shape)
    require(shape == (B, T), name, "shape", shape, f"({B}, {T}), as input_ids")
    require(positions.dtype in INTEGERS, name, "dtype", positions.dtype, "int32 or int64")
    require(positions.device == ids.device, name, "device", positions.device,
            f"{ids.device}, as input_ids")  # fmt: skip
    require(bool((positions >= 0).all()), name, "values", _some(positions), "integers >= 0")
    if cache is None or not T:
        return positions
    if cache.length:
        goes_on = cache.valid[:, -1]  # rows of which a token was seen
        same = torch.equal(positions[goes_on, 0].long(), due[goes_on])
        want = f"first {due.tolist()}, where the cache ends"
        require(same, name, "first values", positions[:, 0].tolist(), want)
    seen = valid[:, valid.shape[1] - T :][:, :-1]  # steps behind a token that is not padding
    ok = bool(((positions.long().diff(dim=1) == 1) | ~seen).all())
    require(ok, name, "values", _some(positions), "one more at each token, where there is a cache")
    return positions


def _some(x: Tensor) -> str:
    """A matrix, or the beginning of a large one."""
    return str(x.tolist()) if x.numel() <= 64 else f"{x[:2, :24].tolist()} and more"
