"""mlx-lm's layers, made and loaded by its own model."""

from typing import Any

import mlx.core as mx
import torch
from mlx_lm.models.bailing_hybrid import Model, ModelArgs
from mlx_lm.models.base import create_causal_mask

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.mlx._arrays import mlx, torched

PACKAGES = ("mlx_lm",)
FLOAT32 = {"float32": "fp32"}
ORIGIN = "its decays count layers from 0"
STEPS = "it counts positions from that of the first token"
BIASES = "with use_bias its experts have biases, the released ones have none"


FROM_0 = ("training", "unnormed", "alone")  # the configurations with `decay_layer_origin` 0


def _counted_from_0(case: Any) -> bool | str:
    if case.positions == "any":
        return STEPS
    return case.config in FROM_0 or ORIGIN


def _in_steps(case: Any) -> bool | str:
    return case.positions != "any" or STEPS


def _without_biases(case: Any) -> bool | str:
    return case.config != "biased" or BIASES


def _either(case: Any) -> bool | str:
    if case.config == "biased":
        return BIASES
    if case.positions == "any":
        return STEPS
    return case.config in FROM_0 or case.L in (1, 3, 4) or ORIGIN


@implements("lightning_layer", profile=FLOAT32, supports=_counted_from_0, packages=PACKAGES)
def lightning_layer(x, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def] # as the op
    return _attended(_loaded(weights, config, layer, "attention"), x, positions, cache)


@implements("mla_layer", profile=FLOAT32, supports=_in_steps, packages=PACKAGES)
def mla_layer(x, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def] # as the op
    rank = config["kv_lora_rank"]
    return _looked_up(_loaded(weights, config, layer, "attention"), x, positions, cache, rank)


@implements("moe_block", profile=FLOAT32, supports=_without_biases, packages=PACKAGES)
def moe_block(x, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def] # noqa: ARG001 # as the op
    return torched(_loaded(weights, config, layer, "mlp")(mlx(x))) if x.numel() else x.clone()


@implements("decoder_layer", profile=FLOAT32, supports=_either, packages=PACKAGES)
def decoder_layer(x, weights, config, *, layer, positions, cache=None):  # type: ignore[no-untyped-def] # as the op
    made = _loaded(weights, config, layer)
    if made.is_global:
        return _looked_up(made, x, positions, cache, config["kv_lora_rank"])
    return _attended(made, x, positions, cache)


def _loaded(weights: Any, config: Any, layer: int, part: str = "") -> Any:
    """A layer, or a part of it, with weights of a checkpoint, renamed as the package does it."""
    model = Model(ModelArgs.from_dict({**config, "model_type": "bailing_hybrid"}))
    given = model.sanitize({name: mlx(x) for name, x in weights.items()})
    made = model.layers[layer]
    prefix = f"model.layers.{layer}."
    if part:
        made, prefix = made[part], f"{prefix}{part}."
    made.load_weights([(n.removeprefix(prefix), x) for n, x in given.items() if prefix in n])
    return made


def _attended(part: Any, x: Any, positions: Any, cache: Any) -> Any:
    """A linear attention, or a layer with one; its cache is a list of the state."""
    if not x.numel():  # no call of the package's
        return x.clone()
    held = [None if cache is None else mlx(cache.state)]
    offset = mlx(positions[:, 0].to(torch.int32))
    y = torched(part(mlx(x), None, held, offset=offset))
    if cache is not None:
        cache.state = torched(held[0])
    return y


def _looked_up(part: Any, x: Any, positions: Any, cache: Any, rank: int) -> Any:
    """An MLA attention, or a layer with one."""
    B, T, _ = x.shape
    rows = None if cache is None else cache.rows
    if not x.numel():
        if cache is not None:
            cache.rows = torch.cat([rows, rows.new_zeros(B, T, rows.shape[-1])], dim=1)
        return x.clone()
    held = _Rows(rows, positions, rank)
    before = 0 if rows is None else rows.shape[1]
    mask = create_causal_mask(T, offset=before) if T > 1 else None
    y = torched(part(mlx(x), mask, held))
    if cache is not None:
        cache.rows = held.rows()
    return y


def paired(rope: torch.Tensor) -> torch.Tensor:
    """Rotated keys as the package keeps them: the two coordinates of a pair side by side."""
    return rope.unflatten(-1, (2, -1)).mT.flatten(-2)


def unpaired(rope: torch.Tensor) -> torch.Tensor:
    """Rotated keys as the cache of the op has them: first coordinates, then second ones."""
    return rope.unflatten(-1, (-1, 2)).mT.flatten(-2)


class _Rows:
    """What a layer sees of a cache: where its tokens stand, and the rows before them."""

    def __init__(self, rows: Any, positions: Any, rank: int) -> None:
        self.offset = mlx(positions[:, 0].to(torch.int32))
        self.latent = self.rope = None
        if rows is not None and rows.numel():
            latent, rope = rows[:, None, :, :rank], rows[:, None, :, rank:]
            self.latent = mlx(latent)
            self.rope = mlx(paired(rope))

    def update_and_fetch(self, latent: Any, rope: Any) -> Any:
        if self.latent is not None:
            latent = mx.concatenate([self.latent, latent], axis=2)
            rope = mx.concatenate([self.rope, rope], axis=2)
        self.latent, self.rope = latent, rope
        return latent, rope

    def rows(self) -> torch.Tensor:
        return torch.cat([torched(self.latent), unpaired(torched(self.rope))], dim=-1)[:, 0]
