"""mlx-lm's whole model, with the caches that it makes."""

from typing import Any

import torch
from mlx_lm.models.bailing_hybrid import Model, ModelArgs

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.mlx._arrays import mlx, torched
from lingspec.conformance.adapters.mlx.layers import (
    BIASES,
    FLOAT32,
    FROM_0,
    ORIGIN,
    PACKAGES,
    STEPS,
    paired,
    unpaired,
)  # fmt: skip


def _takes(case: Any) -> bool | str:
    if case.config == "biased":
        return BIASES
    if not case.T or not case.B:
        return "it takes tokens"
    if case.positions == "any":
        return STEPS
    return case.config in FROM_0 or ORIGIN


@implements("model", profile=FLOAT32, supports=_takes, packages=PACKAGES)
def model(input_ids, weights, config, *, positions, cache=None):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    made = Model(ModelArgs.from_dict({**config, "model_type": "bailing_hybrid"}))
    given = made.sanitize({name: mlx(x) for name, x in weights.items()})
    made.load_weights(list(given.items()))
    held = None if cache is None else made.make_cache()
    rank = config["kv_lora_rank"]
    for layer, of in zip(cache or (), held or (), strict=True):
        _fill(layer, of, rank)
    logits = torched(made(mlx(input_ids), held))
    for layer, of in zip(cache or (), held or (), strict=True):
        if hasattr(layer, "state"):
            layer.state = torched(of[0])
        else:
            latent, rope = map(torched, of.keys_and_values())
            layer.rows = torch.cat([latent, unpaired(rope)], dim=-1)[:, 0].contiguous()
    return logits


def _fill(layer: Any, held: Any, rank: int) -> None:
    """What earlier tokens left, where the package keeps it."""
    if hasattr(layer, "state"):
        held[0] = mlx(layer.state)
    elif layer.rows.shape[1]:
        rows = layer.rows[:, None]
        held.update_and_fetch(mlx(rows[..., :rank]), mlx(paired(rows[..., rank:])))
