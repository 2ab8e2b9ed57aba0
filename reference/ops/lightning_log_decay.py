"""The decay of each head of a Lightning layer.

Letters: H heads, h a head from 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lingspec.reference.checks import require

__all__ = ["lightning_log_decay"]


def lightning_log_decay(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    """The logarithm of the factor by which head h forgets at every token.

        log_decay[h] = -round(round(slope[h]) * round(1 - (layer - origin) / (layers - 1) + 1e-5))

    with slope[h] = 2^(-8 (h + 1) / H) where H is a power of two. Where it is not, with P the
    largest power of two below H: the P slopes of P heads, then every second one of 2P heads, from
    the first, until there are H.

    Args:
        heads:  H >= 1, of the whole model: a shard takes rows of the result.
        layer:  From 0, of the whole model, 0 <= layer < layers.
        layers: >= 2.
        origin: The layer whose factor is 1 (but for the 1e-5). 1 as released, where layer 0
                therefore decays by more than its slopes; 0 as in the training code, vLLM, SGLang
                and mlx-lm.

    Returns:
        (H,) float32, <= 0, natural logarithm per token.

    Precision:
        ``round`` is to float32; slopes and factor are evaluated in float64 before it. The bits of
        the result are part of the specification.

    Raises:
        ContractError: a number is out of its range.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:754-757 (factor) and 761-804
        (slopes). Origin 0: vllm @055e47c, bailing_linear_attn.py.
    """
    require(heads >= 1, "heads", "value", heads, "an integer >= 1")
    require(layers >= 2, "layers", "value", layers, "an integer >= 2")
    require(0 <= layer < layers, "layer", "value", layer, f"0 <= layer < {layers}, as layers says")
    require(origin in (0, 1), "origin", "value", origin, "0 or 1")

    slopes = torch.tensor(_slopes(heads), dtype=torch.float32)
    factor = 1 - (layer - origin) / (layers - 1) + 1e-5
    return -slopes * torch.tensor(factor, dtype=torch.float32)


def _slopes(heads: int) -> list[float]:
    power = 2 ** (heads.bit_length() - 1)  # the largest power of two <= heads
    slopes = _geometric(power)
    return slopes + _geometric(2 * power)[0::2][: heads - power]


def _geometric(heads: int) -> list[float]:
    first = 2 ** (-(2 ** -(math.log2(heads) - 3)))  # 2^(-8 / heads)
    return [first * first**h for h in range(heads)]
