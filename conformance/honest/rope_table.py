"""Right rotary tables in several forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._rope import (
    Result,
    Scaling,
    Tensor,
    ends,
    frequencies,
    magnitude,
    table,
)

OP = "rope_table"
BOTH = {"float64": "fp64", "float32": "fp32"}


@honest(OP, profile=BOTH, differs="frequencies in float64, angles in float32")
def computes_frequencies_in_float64(positions: Tensor, **options: Any) -> Result:
    return table(positions, **options)


@honest(OP, profile={"float32": "fp32"}, differs="as transformers: powers and ramp in float32")
def computes_frequencies_in_float32(
    positions: Tensor, *, rotary_dim: int, theta: float, scaling: Scaling = None
) -> Result:
    powers = theta ** (torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim)
    f = 1.0 / powers
    if scaling is not None:
        low, high = ends(rotary_dim, theta, scaling)
        high = high + 0.001 if low == high else high
        ramp = (torch.arange(rotary_dim // 2, dtype=torch.float32) - low) / (high - low)
        kept = 1 - ramp.clamp(0, 1)
        f = 1.0 / (scaling["factor"] * powers) * (1 - kept) + f * kept
    angle = positions.float()[..., None] * f
    m = magnitude(scaling)
    return angle.cos() * m, angle.sin() * m


@honest(OP, profile={"float32": "fp32"}, differs="frequencies as exponentials, in float32")
def computes_frequencies_as_exponentials(positions: Tensor, **options: Any) -> Result:
    def exponentials(R: int, theta: float, scaling: Scaling) -> Tensor:
        if scaling is not None:
            return frequencies(R, theta, scaling)
        step = torch.tensor(-2 * math.log(theta) / R, dtype=torch.float32)
        return torch.exp(torch.arange(R // 2, dtype=torch.float32) * step)

    return table(positions, **options, frequencies=exponentials)


@honest(OP, profile={"float32": "fp32"}, differs="everything in float64, rounded at the end")
def rounds_the_table_at_the_end(
    positions: Tensor, *, rotary_dim: int, theta: float, scaling: Scaling = None
) -> Result:
    cos, sin = table(positions.double(), rotary_dim=rotary_dim, theta=theta, scaling=scaling)
    return cos.float(), sin.float()


@honest(OP, array="numpy", profile=BOTH, differs="NumPy; the last axis of an outer product")
def makes_the_table_with_numpy(
    positions: Any, *, rotary_dim: int, theta: float, scaling: Scaling = None
) -> Any:
    kind = np.float64 if positions.dtype == np.float64 else np.float32
    f = frequencies(rotary_dim, theta, scaling).numpy().astype(kind)
    angle = np.multiply.outer(positions.astype(kind), f)
    m = kind(magnitude(scaling))
    return m * np.cos(angle), m * np.sin(angle)
