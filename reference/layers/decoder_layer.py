"""One layer of the model.

Letters: B batch, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lingspec.reference.cache import LatentCache, LightningCache
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.checks import check_cache, check_input, check_positions
from lingspec.reference.layers.lightning_layer import lightning_layer
from lingspec.reference.layers.mla_layer import mla_layer
from lingspec.reference.layers.moe_block import Tap, mlp, moe_blocks, silent, tapped
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.rounding import at
from lingspec.reference.weights import Weights

__all__ = ["attended", "decoder_layer", "fed_forward"]


def decoder_layer(
    x: Tensor, weights: Weights, config: LingConfig, *, layer: int, positions: Tensor,
    cache: LightningCache | LatentCache | None = None, valid: Tensor | None = None,
    tap: Tap = silent, absorbed: bool = False,
) -> Tensor:  # fmt: skip
    """Attention and MLP, each behind a norm and added to what came in.

        h = x + attention(norm(x))         MLA or Lightning, as `LingConfig.is_mla` says
        y = h + mlp(norm(h))               experts or dense, as `LingConfig.is_moe` says

    Args:
        x:         (B, T, D) float64, float32, bfloat16 or float16.
        weights:   Tensors ``model.layers.{layer}.*``, dtype of ``x``.
        config:    The model's.
        layer:     From 0.
        positions: (B, T) integers.
        cache:     That of this layer; it is brought up to date. None: nothing is kept.
        valid:     (B, S) bool over all tokens seen, False at padding on the left.
        tap:       Sees and may replace ``layers.{layer}.attention``, what `moe_block` names,
                   ``layers.{layer}.mlp`` and ``layers.{layer}.output``, all (B, T, D).
        absorbed:  As `mla_layer`.

    Returns:
        (B, T, D), the dtype of ``x``.

    Raises:
        ContractError: a shape, a dtype or a device that is not as above, or another layer's cache.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:974-1060.
    """
    h = attended(
        x, weights, config, layer=layer, positions=positions, cache=cache, valid=valid, tap=tap,
        absorbed=absorbed,
    )  # fmt: skip
    return fed_forward([h], weights, config, layer=layer, taps=[tap])[0]


def attended(
    x: Tensor, weights: Weights, config: LingConfig, *, layer: int, positions: Tensor,
    cache: LightningCache | LatentCache | None, valid: Tensor | None, tap: Tap, absorbed: bool,
) -> Tensor:  # fmt: skip
    """The first half of `decoder_layer`: h."""
    check_input(x, config)
    check_positions(positions, x)
    check_cache(cache, x, config, layer)
    name = f"model.layers.{layer}.input_layernorm.weight"
    normed = rms_norm(x, weights[name], eps=config.rms_norm_eps)
    now = None if valid is None else valid[:, valid.shape[1] - x.shape[1] :]
    if config.is_mla(layer):
        assert cache is None or isinstance(cache, LatentCache)
        y = mla_layer(
            normed, weights, config, layer=layer, positions=positions, cache=cache, valid=valid,
            absorbed=absorbed,
        )  # fmt: skip
    else:
        assert cache is None or isinstance(cache, LightningCache)
        y = lightning_layer(
            normed, weights, config, layer=layer, positions=positions, cache=cache, valid=now
        )
    return at("residual", x + tapped(tap, f"layers.{layer}.attention", y))


def fed_forward(
    hs: Sequence[Tensor], weights: Weights, config: LingConfig, *, layer: int, taps: Sequence[Tap]
) -> list[Tensor]:
    """The second half of `decoder_layer`, of several inputs, each with its tap."""
    name = f"model.layers.{layer}"
    weight = weights[f"{name}.post_attention_layernorm.weight"]
    normed = [rms_norm(h, weight, eps=config.rms_norm_eps) for h in hs]
    if config.is_moe(layer):
        made = moe_blocks(normed, weights, config, layer=layer, taps=taps)
    else:
        made = [mlp(x, weights, f"{name}.mlp") for x in normed]
    return [
        tapped(
            tap,
            f"layers.{layer}.output",
            at("residual", h + tapped(tap, f"layers.{layer}.mlp", y)),
        )
        for h, y, tap in zip(hs, made, taps, strict=True)
    ]
