"""Right decay exponents by several routes to the same bits."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._lightning import Tensor, log_decay

OP = "lightning_log_decay"


@honest(OP, differs="ALiBi's code in Python floats")
def follows_the_released_code(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    return log_decay(heads, layer, layers, origin=origin)


def exponents(heads: int) -> list[Fraction]:
    """Of 1/2, for each head: the slopes are 2 to minus these."""
    below = 1 << (heads.bit_length() - 1)
    regular = [Fraction(8 * (h + 1), below) for h in range(below)]
    extra = [Fraction(8 * (2 * h + 1), 2 * below) for h in range(heads - below)]
    return regular + extra


@honest(
    OP, differs="every slope is one power of two, exponents as exact fractions; float64 tensors"
)
def takes_one_power_per_head(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    slopes = torch.exp2(-torch.tensor([float(x) for x in exponents(heads)], dtype=torch.float64))
    factor = torch.tensor(1 - (layer - origin) / (layers - 1) + 1e-5, dtype=torch.float64)
    return slopes.float() * -factor.float()


@honest(OP, differs="the slopes are built head by head from a table of roots", array="torch")
def multiplies_roots_of_one_half(heads: int, layer: int, layers: int, *, origin: int = 1) -> Tensor:
    result = torch.empty(heads, dtype=torch.float32)
    factor = torch.tensor(-(1 - (layer - origin) / (layers - 1) + 1e-5)).to(torch.float32)
    for head, exponent in enumerate(exponents(heads)):
        whole = math.floor(exponent)
        slope = math.ldexp(2 ** float(whole - exponent), -whole)
        result[head] = torch.tensor(slope, dtype=torch.float32) * factor
    return result


@honest(OP, differs="NumPy", array="numpy")
def computes_the_exponents_with_numpy(
    heads: int, layer: int, layers: int, *, origin: int = 1
) -> Any:
    slopes = np.power(2.0, [-float(x) for x in exponents(heads)]).astype(np.float32)
    return -(slopes * np.float32(1 - (layer - origin) / (layers - 1) + 1e-5))
