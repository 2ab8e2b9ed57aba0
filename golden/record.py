"""A trace of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lingspec.golden.recorder import Recorder
from lingspec.reference import LingModel
from lingspec.reference.cache import LatentCache
from lingspec.reference.checks import require
from lingspec.reference.layers.moe_block import Tap

__all__ = ["record"]


def record(
    model: LingModel, input_ids: Tensor, folder: str | Path, *, positions: Tensor | None = None,
    attention_mask: Tensor | None = None, decode: int = 0,
    weights: Mapping[str, Tensor] | str | None = None, tap: Tap | None = None,
    made_by: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Run a model and write all that it names.

    Without ``decode`` there is one call, and names are those of the model. With it the first
    T - decode tokens are one call, whose names begin with ``prefill.``; every later token is a call
    through the cache, ``decode.0.``, ``decode.1.``, …; and then the cache is recorded:
    ``cache.N.state`` of Lightning layers, ``cache.N.rows`` of MLA layers.

    Args:
        model:          The reference.
        input_ids:      (B, T) integers.
        folder:         Where the trace goes.
        positions:      (B, T) integers, as `LingModel` takes them.
        attention_mask: (B, T) of 0 and 1, likewise.
        decode:         How many of the tokens are decoded, from 0 to T.
        weights:        What the weights' digest is made of, or the digest; None: it is not told.
        tap:            Sees and may replace tensors, under the names that the trace has; what it
                        puts in their place is recorded.
        made_by:        As `Recorder`.

    Returns:
        ``folder``.
    """
    B, T = input_ids.shape
    require(0 <= decode <= T, "decode", "value", decode, f"a number of tokens from 0 to {T}")
    given = {"input_ids": input_ids, "positions": positions, "attention_mask": attention_mask}
    inputs = {name: x for name, x in given.items() if x is not None}
    recorder = Recorder(
        folder, config=model.config, precision=model.weights["model.norm.weight"].dtype,
        weights=weights, inputs=inputs, made_by=made_by,
    )  # fmt: skip
    with recorder, torch.no_grad():
        if not decode:
            model(input_ids, positions, attention_mask, tap=_heard(recorder, "", tap))
            return recorder.save()
        cache, start = model.new_cache(B), T - decode
        calls = [("prefill.", 0, start)] if start else []
        calls += [(f"decode.{n}.", start + n, start + n + 1) for n in range(decode)]
        for call, first, last in calls:
            model(
                input_ids[:, first:last],
                None if positions is None else positions[:, first:last],
                None if attention_mask is None else attention_mask[:, :last],
                cache=cache, tap=_heard(recorder, call, tap),
            )  # fmt: skip
        for layer, held in enumerate(cache.layers):
            kept = ("rows", held.rows) if isinstance(held, LatentCache) else ("state", held.state)
            recorder.add(f"cache.{layer}.{kept[0]}", kept[1])
        return recorder.save()


def _heard(recorder: Recorder, call: str, tap: Tap | None) -> Tap:
    """A tap that records what ``tap`` leaves."""

    def heard(name: str, x: Tensor) -> Tensor | None:
        other = None if tap is None else tap(call + name, x)
        recorder.add(call + name, x if other is None else other)
        return other

    return heard
