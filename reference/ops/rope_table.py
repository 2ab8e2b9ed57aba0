"""Cosines and sines of the rotary position embedding, YaRN included.

Letters: R rotary dims, j a frequency from 0 to R/2 - 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.rounding import at

__all__ = ["YARN_KEYS", "frequencies", "magnitude", "rope_table"]

YARN_KEYS = {
    "rope_type", "type", "factor", "original_max_position_embeddings", "attention_factor",
    "mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate", "rope_theta",
    "partial_rotary_factor",
}  # fmt: skip


def rope_table(
    positions: Tensor, *, rotary_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """The angle of each frequency at each position, as cosine and sine.

        cos[..., j] = m cos(round(p * f_j)),  sin[..., j] = m sin(round(p * f_j))

    with f_j = round(theta^(-2j/R)) and m = 1. With YaRN, f_j is between that and the same divided
    by ``factor``, by how often it turns over the original context (`frequencies`), and m is
    `magnitude`; m multiplies the rotated dims of queries and keys alike.

    Args:
        positions:  (...) an integer dtype, or a float one that holds integers; >= 0.
        rotary_dim: R, even, >= 2.
        theta:      > 1.
        scaling:    The YaRN mapping of a configuration: ``factor`` and
                    ``original_max_position_embeddings``, and where they are given
                    ``attention_factor``, ``mscale``, ``mscale_all_dim``, ``beta_fast``,
                    ``beta_slow``, ``truncate``.

    Returns:
        cos and sin, (..., R/2) float32; float64 where ``positions`` is float64.

    Precision:
        ``round`` is to float32: frequencies and angles are float32 numbers, so that an angle errs
        by up to 2^-24 of itself, which at position 10^6 is 0.06. For float64 nothing is rounded.

    Raises:
        ContractError: a number is out of its range, or ``scaling`` is not YaRN's.

    Source:
        transformers 4.57.1, modeling_rope_utils.py, _compute_default_rope_parameters and
        _compute_yarn_parameters; inclusionAI/Ling-V2.5 @79c5ec5,
        modeling_bailing_moe_v2_5.py:210-241. YaRN: arXiv 2309.00071.
    """
    ok = rotary_dim >= 2 and rotary_dim % 2 == 0
    require(ok, "rotary_dim", "value", rotary_dim, "an even integer >= 2")
    require(theta > 1, "theta", "value", theta, "a number > 1")
    if scaling is not None:
        _check(scaling)
    kinds = (torch.bool, torch.complex64, torch.complex128)
    ok = positions.dtype not in kinds
    require(ok, "positions", "dtype", positions.dtype, "an integer dtype, or a float one")
    least = positions.min().item() if positions.numel() else 0
    require(least >= 0, "positions", "value", least, "integers >= 0")
    exact = positions.dtype == torch.float64
    kind = torch.float64 if exact else torch.float32
    angle = positions.to(kind)[..., None] * frequencies(rotary_dim, theta, scaling).to(kind)
    m = magnitude(scaling)
    return at("rope", angle.cos() * m), at("rope", angle.sin() * m)


def frequencies(rotary_dim: int, theta: float, scaling: Mapping[str, Any] | None = None) -> Tensor:
    """f_j (R/2,) float64, in radians per token.

    With YaRN: f_j ramp_j / factor + f_j (1 - ramp_j), where ramp_j rises from 0 to 1 between the
    frequency that turns ``beta_fast`` times (32) over the original context and the one that turns
    ``beta_slow`` times (1); both ends are widened to whole numbers unless ``truncate`` is false.
    """
    j = torch.arange(0, rotary_dim, 2, dtype=torch.float64)
    f = at("frequency", theta ** -(j / rotary_dim))
    if scaling is None:
        return f
    factor: float = scaling["factor"]
    context = scaling["original_max_position_embeddings"]

    def turning(times: float) -> float:
        return rotary_dim * math.log(context / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = turning(scaling.get("beta_fast") or 32)
    high = turning(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    ends = (max(low, 0), min(high, rotary_dim - 1))
    first, last = (at("end", torch.tensor(end, dtype=torch.float64)) for end in ends)
    width = last - first if last != first else 1e-3
    ramp = ((torch.arange(rotary_dim // 2, dtype=torch.float64) - first) / width).clamp(0, 1)
    return f / factor * ramp + f * (1 - ramp)


def magnitude(scaling: Mapping[str, Any] | None) -> float:
    """What YaRN multiplies cosines and sines with; 1 without it.

    ``attention_factor``; or mscale(mscale) / mscale(mscale_all_dim) where both are given and not 0;
    or mscale(1), with mscale(x) = 0.1 x ln(factor) + 1, and 1 where factor <= 1.
    """
    if scaling is None:
        return 1.0
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    factor, one, all_dim = scaling["factor"], scaling.get("mscale"), scaling.get("mscale_all_dim")
    if one and all_dim:
        return mscale(factor, one) / mscale(factor, all_dim)
    return mscale(factor, 1.0)


def mscale(factor: float, weight: float) -> float:
    """0.1 weight ln(factor) + 1, and 1 where factor <= 1."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _check(scaling: Mapping[str, Any]) -> None:
    kind = scaling.get("rope_type", scaling.get("type"))
    require(kind == "yarn", "scaling", "rope_type", kind, "yarn")
    unknown = sorted(set(scaling) - YARN_KEYS)
    known = ", ".join(sorted(YARN_KEYS))
    require(not unknown, "scaling", "keys", ", ".join(unknown), f"only {known}")
    for name in ("factor", "original_max_position_embeddings"):
        value = scaling.get(name)
        ok = isinstance(value, int | float) and value > 0
        require(ok, f"scaling[{name!r}]", "value", value, "a number > 0")
