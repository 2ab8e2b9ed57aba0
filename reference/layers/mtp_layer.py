"""The layer that predicts the token after the next one.

Letters: B batch, T tokens, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.cache import LatentCache
from lingspec.reference.config import LingConfig
from lingspec.reference.layers.checks import (
    check_cache,
    check_input,
    check_like,
    check_positions,
)
from lingspec.reference.layers.decoder_layer import decoder_layer
from lingspec.reference.layers.moe_block import Tap, silent, tapped
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.weights import Weights, linear

__all__ = ["mtp_layer"]


def mtp_layer(
    x: Tensor, embedded: Tensor, weights: Weights, config: LingConfig, *, layer: int,
    positions: Tensor, cache: LatentCache | None = None, valid: Tensor | None = None,
    tap: Tap = silent,
) -> Tensor:  # fmt: skip
    """Join a hidden state with the embedding of the next token, and run one more layer.

        h_t = (norm(embedding of token t + 1) | norm(x_t)) W_eh        the embedding first
        y = norm(decoder_layer(h))

    Args:
        x:         (B, T, D) the model's hidden states after its last norm, or those of the MTP
                   layer before.
        embedded:  (B, T, D) embeddings of the tokens one later. At the last place the released
                   code has that of token 0.
        weights:   Tensors ``model.layers.{layer}.*``, dtype of ``x``.
        config:    The model's.
        layer:     ``num_hidden_layers`` or more: always MLA and experts.
        positions: (B, T) integers; those of x, not of the tokens one later, as released.
        cache:     Rows of earlier tokens of this layer.
        valid:     (B, S) bool, as `decoder_layer`.
        tap:       As `decoder_layer`; ``layers.{layer}.output`` is behind the last norm.

    Returns:
        (B, T, D), the dtype of ``x``; the model's head makes logits of it.

    Raises:
        ContractError: a shape, a dtype or a device that is not as above, or another layer's cache.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:902-971.
    """
    check_input(x, config)
    check_like(embedded, "embedded", x)
    check_positions(positions, x)
    check_cache(cache, x, config, layer)
    name, eps = f"model.layers.{layer}", config.rms_norm_eps
    joined = torch.cat(
        [
            rms_norm(embedded, weights[f"{name}.enorm.weight"], eps=eps),
            rms_norm(x, weights[f"{name}.hnorm.weight"], eps=eps),
        ],
        dim=-1,
    )
    h = linear(joined, weights, f"{name}.eh_proj")
    output = f"layers.{layer}.output"

    def inner(what: str, y: Tensor) -> Tensor | None:
        return None if what == output else tap(what, y)

    h = decoder_layer(
        h, weights, config, layer=layer, positions=positions, cache=cache, valid=valid, tap=inner
    )
    return tapped(tap, output, rms_norm(h, weights[f"{name}.final_layernorm.weight"], eps=eps))
