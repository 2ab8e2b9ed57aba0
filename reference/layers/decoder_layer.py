"""One layer of the model.

Letters: B batch, T tokens, D hidden size.
"""

from __future__ import annotations

from torch import Tensor

from lingspec.reference.cache import LatentCache, LightningCache
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.lightning_layer import lightning_layer
from lingspec.reference.layers.mla_layer import mla_layer
from lingspec.reference.layers.moe_block import Tap, mlp, moe_block, silent, tapped
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.weights import Weights

__all__ = ["decoder_layer"]


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

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:974-1060.
    """
    name, eps = f"model.layers.{layer}", config.rms_norm_eps
    normed = rms_norm(x, weights[f"{name}.input_layernorm.weight"], eps=eps)
    now = None if valid is None else valid[:, -x.shape[1] :]
    if config.is_mla(layer):
        assert cache is None or isinstance(cache, LatentCache)
        attended = mla_layer(
            normed, weights, config, layer=layer, positions=positions, cache=cache, valid=valid,
            absorbed=absorbed,
        )  # fmt: skip
    else:
        assert cache is None or isinstance(cache, LightningCache)
        attended = lightning_layer(
            normed, weights, config, layer=layer, positions=positions, cache=cache, valid=now
        )
    h = x + tapped(tap, f"layers.{layer}.attention", attended)

    normed = rms_norm(h, weights[f"{name}.post_attention_layernorm.weight"], eps=eps)
    if config.is_moe(layer):
        made = moe_block(normed, weights, config, layer=layer, positions=positions, tap=tap)
    else:
        made = mlp(normed, weights, f"{name}.mlp")
    return tapped(tap, f"layers.{layer}.output", h + tapped(tap, f"layers.{layer}.mlp", made))
