"""Right rotary ops, and the lines of them that mutants replace.

B batch, T tokens, H heads, K head dim, R rotary dims, F = R/2 pairs. Products and sums are float32
(float64 where the inputs are), with one rounding of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from lingspec.conformance.mutants._rows import norm, parted, work_dtype

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor]
Turn = Callable[[Tensor, Tensor, Tensor, Tensor], Result]
Scaling = Mapping[str, Any] | None


def turn(a: Tensor, b: Tensor, c: Tensor, s: Tensor) -> Result:
    """Both coordinates, rotated."""
    return a * c - b * s, b * c + a * s


def rotated(
    x: Tensor, cos: Tensor, sin: Tensor, *, wide: torch.dtype | None = None, turn: Turn = turn
) -> Tensor:
    """All dims of ``x``, whose halves are the two coordinates."""
    kind = wide or work_dtype(x)
    a, b = x.to(kind).chunk(2, dim=-1)
    c, s = (table.to(kind)[:, :, None] for table in (cos, sin))
    return torch.cat(turn(a, b, c, s), -1).to(x.dtype)


def partial(x: Tensor, cos: Tensor, sin: Tensor, **lines: Any) -> Tensor:
    """partial_rope."""
    R = 2 * cos.shape[-1]
    return torch.cat([rotated(x[..., :R], cos, sin, **lines), x[..., R:]], -1)


def halves(x: Tensor) -> Tensor:
    """First coordinates of all pairs, then second ones."""
    return torch.cat([x[..., 0::2], x[..., 1::2]], -1)


def pairs(x: Tensor) -> Tensor:
    """The opposite of `halves`."""
    return parted(x, 2).transpose(-1, -2).flatten(-2)


def interleaved(x: Tensor, cos: Tensor, sin: Tensor, **lines: Any) -> Tensor:
    """interleaved_rope."""
    return rotated(halves(x), cos, sin, **lines)


def both(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, cos: Tensor, sin: Tensor, *,
    eps: float, wide: torch.dtype | None = None, turn: Turn = turn, **lines: Any,
) -> Result:  # fmt: skip
    """qk_norm_rope; ``lines`` are those of the norm."""
    normed = (norm(x, w, eps=eps, wide=wide, **lines) for x, w in ((q, q_weight), (k, k_weight)))
    q, k = (partial(x, cos, sin, wide=wide, turn=turn) for x in normed)
    return q, k


# -- the table -------------------------------------------------------------------------------


def turning(times: float, R: int, theta: float, context: float) -> float:
    """The pair that turns so many times over the context."""
    return R * math.log(context / (times * 2 * math.pi)) / (2 * math.log(theta))


def ends(R: int, theta: float, scaling: Mapping[str, Any]) -> tuple[float, float]:
    """Where YaRN's ramp begins and ends."""
    context = scaling["original_max_position_embeddings"]
    low = turning(scaling.get("beta_fast") or 32, R, theta, context)
    high = turning(scaling.get("beta_slow") or 1, R, theta, context)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    return max(low, 0), min(high, R - 1)


def plain(R: int, theta: float) -> Tensor:
    """theta^(-2j/R), float64."""
    f: Tensor = theta ** -(torch.arange(0, R, 2, dtype=torch.float64) / R)
    return f


def scaled(f: Tensor, factor: float, low: float, high: float) -> Tensor:
    """Frequencies divided by ``factor`` from ``high`` on, as they were up to ``low``."""
    width = high - low if high != low else 1e-3
    ramp = ((torch.arange(len(f), dtype=f.dtype) - low) / width).clamp(0, 1)
    return f / factor * ramp + f * (1 - ramp)


def frequencies(R: int, theta: float, scaling: Scaling) -> Tensor:
    """Radians from token to token, float64."""
    f = plain(R, theta)
    return f if scaling is None else scaled(f, scaling["factor"], *ends(R, theta, scaling))


def mscale(factor: float, weight: float) -> float:
    """0.1 weight ln(factor) + 1."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1


def magnitude(scaling: Scaling) -> float:
    """What cosines and sines are multiplied by."""
    if scaling is None:
        return 1.0
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    one, all_dim = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if one and all_dim:
        return mscale(scaling["factor"], one) / mscale(scaling["factor"], all_dim)
    return mscale(scaling["factor"], 1.0)


def table(
    positions: Tensor, *, rotary_dim: int, theta: float, scaling: Scaling = None,
    frequencies: Callable[[int, float, Scaling], Tensor] = frequencies,
    magnitude: Callable[[Scaling], float] = magnitude,
    wide: torch.dtype | None = None,
    waves: Callable[[Tensor], Result] = lambda angle: (angle.cos(), angle.sin()),
) -> Result:  # fmt: skip
    """rope_table."""
    kind = torch.float64 if positions.dtype == torch.float64 else torch.float32
    angle = positions.to(kind)[..., None] * frequencies(rotary_dim, theta, scaling).to(kind)
    m = magnitude(scaling)
    cos, sin = (m * wave for wave in waves(angle.to(wide or kind)))
    return cos.to(kind), sin.to(kind)
