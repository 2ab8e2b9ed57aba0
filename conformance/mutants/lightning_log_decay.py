"""Decay exponents of a layer that are not those of the released model."""

from __future__ import annotations

import math

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import (
    Tensor,
    head_slopes,
    layer_factor,
    log_decay,
    power_of_two_slopes,
    slopes_times_factor,
)

OP = "lightning_log_decay"


@mutant(
    OP,
    law="authority",
    source="A01 https://github.com/areal-project/AReaL/commit/483a4e86a",
    looks_like="the layers count from 0 whatever the origin",
)
def counts_the_layers_from_zero(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return log_decay(heads, layer, layers, origin=0)


@mutant(
    OP,
    law="authority",
    source="A01 https://github.com/sgl-project/sglang-jax/pull/928",
    looks_like="the layers count from 1 whatever the origin",
)
def counts_the_layers_from_one(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    return log_decay(heads, layer, layers, origin=1)


@mutant(
    OP,
    law="authority",
    source="A01 https://github.com/areal-project/AReaL/commit/483a4e86a",
    looks_like="the factor of the layer is missing",
)
def forgets_the_factor_of_the_layer(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return slopes_times_factor(head_slopes(heads), 1.0)


@mutant(
    OP,
    law="authority",
    source="A01 https://github.com/ml-explore/mlx-lm/pull/1227",
    looks_like="layer 0 is clamped to the factor of layer 1",
)
def clamps_the_layer_before_the_origin(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return log_decay(heads, max(layer, origin), layers, origin=origin)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="1e-5 is missing in the factor of the layer",
)
def forgets_the_epsilon_of_the_layer_factor(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    factor = layer_factor(layer, layers, origin) - 1e-5
    return slopes_times_factor(head_slopes(heads), factor)


@mutant(
    OP,
    law="authority",
    source="A01 fla chunk_lightning_attn divides by the number of layers",
    looks_like="the layer is divided by the number of layers, not by one less",
)
def divides_by_the_number_of_layers(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return slopes_times_factor(head_slopes(heads), 1 - (layer - origin) / layers + 1e-5)


@mutant(
    OP,
    law="authority",
    source="A01 https://github.com/fla-org/flash-linear-attention chunk_lightning_attn",
    looks_like="the slopes grow linearly with the head and head 0 has none",
)
def grows_the_slopes_linearly_with_the_head(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    linear = [8 / heads * head for head in range(heads)]
    return slopes_times_factor(linear, layer_factor(layer, layers, origin))


@mutant(
    OP,
    law="authority",
    source="constructed after K04; architecture 4.2: model.to(bfloat16) casts the buffer",
    looks_like="the slopes were cast to bfloat16 with the model",
)
def casts_the_slopes_to_bfloat16(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return log_decay(heads, layer, layers, origin=origin).to(torch.bfloat16).float()


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the plain formula is used where the number of heads is no power of two",
)
def uses_the_plain_formula_for_any_number_of_heads(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return slopes_times_factor(power_of_two_slopes(heads), layer_factor(layer, layers, origin))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the extra heads take the odd slopes of twice the power of two",
)
def takes_every_other_slope_from_the_second_on(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    below = 2 ** math.floor(math.log2(heads))
    extra = power_of_two_slopes(2 * below)[1::2][: heads - below]
    factor = layer_factor(layer, layers, origin)
    return slopes_times_factor(power_of_two_slopes(below) + extra, factor)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the slopes are sorted",
)
def sorts_the_extra_heads_among_the_others(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    ordered = sorted(head_slopes(heads), reverse=True)
    return slopes_times_factor(ordered, layer_factor(layer, layers, origin))


@mutant(
    OP,
    law="authority",
    source="constructed after A02 https://github.com/sgl-project/sglang/pull/30360",
    looks_like="the slopes of half the heads are repeated, as on two shards",
)
def repeats_the_slopes_of_half_the_heads(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    half = head_slopes(max(1, heads // 2))
    repeated = (half + half + half)[:heads]
    return slopes_times_factor(repeated, layer_factor(layer, layers, origin))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the heads count from 0, so that head 0 has slope 1",
)
def counts_the_heads_from_zero(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    shifted = [2 ** (-8 * head / heads) for head in range(heads)]
    return slopes_times_factor(shifted, layer_factor(layer, layers, origin))


@mutant(
    OP,
    law="authority",
    source="constructed after A18 https://github.com/flashinfer-ai/flashinfer/issues/2490",
    looks_like="the decay is returned, not its logarithm",
)
def returns_the_decay_and_not_its_logarithm(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return torch.exp(log_decay(heads, layer, layers, origin=origin))


@mutant(OP, law="authority", source="constructed", looks_like="the sign is positive")
def returns_growth_instead_of_decay(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return -log_decay(heads, layer, layers, origin=origin)


@mutant(OP, law="authority", source="constructed", looks_like="the result is float64")
def returns_the_exponents_in_float64(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    return log_decay(heads, layer, layers, origin=origin).double()


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="slope and factor are multiplied in float64 and rounded once",
)
def rounds_the_product_once_instead_of_its_factors(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    factor = layer_factor(layer, layers, origin)
    return -torch.tensor([slope * factor for slope in head_slopes(heads)], dtype=torch.float32)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the factor of the layer is computed in float32",
)
def computes_the_factor_in_float32(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Tensor:  # fmt: skip
    index = torch.tensor(float(layer - origin))
    factor = 1 - index / (layers - 1) + 1e-5
    return -(torch.tensor(head_slopes(heads), dtype=torch.float32) * factor)
