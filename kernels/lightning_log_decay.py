"""The constant log-decay of each head of one lightning layer.

Letters: H heads, P the largest power of two below H.
"""

import math

import torch
from torch import Tensor

from lingspec.kernels.checks import require

__all__ = ["lightning_log_decay"]


def lightning_log_decay(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    """Return ``-slope[h] * factor(layer)``, with the bits of the released model.

        slope[h] = 2^(-8 (h+1) / H)                                  H a power of two
        slope    = slopes(P) followed by every second of slopes(2P)  otherwise
        factor   = 1 - (layer - origin) / (layers - 1) + 1e-5

    Args:
        heads:  H, of the whole model: a shard takes a slice of the result.
        layer:  From 0.
        layers: Of the whole model, >= 2.
        origin: The layer whose factor is 1 + 1e-5; 1 in the released file, 0 in the training code.
                With 1, layer 0 has a factor above 1.

    Returns:
        (H,) float32 on the CPU.

    Precision:
        Slope and factor are Python floats, each rounded to float32 once; their product is rounded
        in float32.

    Raises:
        ContractError: no head, fewer than two layers, or no such layer.
    """
    require(heads >= 1, "heads", "value", heads, "at least 1")
    require(layers >= 2, "layers", "value", layers, "at least 2")
    require(0 <= layer < layers, "layer", "value", layer, f"0 to {layers - 1}")
    factor = 1 - (layer - origin) / (layers - 1) + 1e-5
    slope = torch.tensor(_slopes(heads), dtype=torch.float32)
    return -(slope * torch.tensor(factor, dtype=torch.float32))


def _slopes(heads: int) -> list[float]:
    power = 1 << (heads.bit_length() - 1)
    slopes = _slopes_of_a_power_of_two(power)
    if power < heads:
        slopes += _slopes_of_a_power_of_two(2 * power)[0::2][: heads - power]
    return slopes


def _slopes_of_a_power_of_two(heads: int) -> list[float]:
    start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
    return [start * start**i for i in range(heads)]
