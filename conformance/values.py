"""Value families, decays and memory layouts, grown from a seed.

A family is chosen because some class of mistakes shows only there; every draw is a function of the
case alone, the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lingspec.conformance.case import Case

__all__ = [
    "COHERENT", "DECAYS", "EXACT", "FAMILIES", "FASTEST", "LAYOUTS", "OFTEN_EXACT", "ROWS",
    "decays", "far_ones", "laid_out", "layout_of", "rng", "state_layout", "tokens", "weights",
]  # fmt: skip

FAMILIES = (
    "normal", "small", "positive", "heavy", "mixed", "zeros", "onehot", "impulse", "repeated",
    "cancelling", "integers", "wide",
)  # fmt: skip
ROWS = ("normal", "small", "positive", "heavy", "amplitudes", "zeros", "onehot", "constant")
EXACT = ("integers", "wide")
OFTEN_EXACT = ("integers", "integers", "wide")  # float16 does not hold what wide ones come to
# Families in which equal inputs repeat: their roundings are equal too and do not average out.
COHERENT = frozenset(
    {"positive", "repeated", "cancelling", "impulse", "onehot", "integers", "wide", "constant"}
)
DECAYS = ("slopes", "none", "slow", "mild", "strong", "reset", "mixture", "exactly")
FASTEST = -1e30  # log_decay
LAYOUTS = (
    "dense", "fused", "headfirst", "padded", "stepped", "transposed", "tokenfirst", "expanded",
    "far",
)  # fmt: skip


def rng(seed: int, salt: str = "") -> torch.Generator:
    """A generator of its own for each use of a case's seed."""
    mixed = seed
    for letter in salt:
        mixed = (mixed * 1_000_003 + ord(letter)) % (1 << 62)
    return torch.Generator().manual_seed(mixed)


def tokens(
    family: str, shape: tuple[int, ...], g: torch.Generator, *, salt: int, tame: bool = False
) -> Tensor:
    """Float64 values of one argument (..., T, H, D); ``salt`` is 0, 1, 2 for q, k, v.

    ``tame`` keeps every product and sum of them below 65504, for float16.
    """
    if tame:
        loud = dict.fromkeys(("mixed", "heavy", "amplitudes"), "normal")
        small = loud.get(family, family)
        return 0.25 * tokens(small, shape, g, salt=salt)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    if x.numel() == 0:
        return x
    if family == "small":
        return 0.1 * x
    if family == "positive":
        return torch.rand(shape, generator=g, dtype=torch.float64)
    if family == "heavy":
        return x * torch.randn(shape, generator=g, dtype=torch.float64).exp()
    if family == "constant":
        return x[..., :1].expand(shape).clone()
    if family == "amplitudes":  # rows from 1e-4 to 1e4
        power = 8 * torch.rand((*shape[:-1], 1), generator=g, dtype=torch.float64) - 4
        return x * 10.0**power
    if family == "mixed":
        scale = torch.randint(-6, 7, (*shape[:-1], 1), generator=g)
        return x * 2.0**scale
    if family == "zeros":
        return x * (torch.rand((*shape[:-1], 1), generator=g) < 0.7)
    if family in EXACT:  # wide: sums of products that 8 bits do not hold, but 24 do
        most = 2 if family == "integers" else 15
        return torch.randint(-most, most + 1, shape, generator=g).double()
    if family == "onehot" and salt < 2:
        place = torch.randint(0, shape[-1], (*shape[:-1], 1), generator=g)
        return torch.zeros(shape, dtype=torch.float64).scatter_(-1, place, 1.0)
    if len(shape) == 4 and family in ("repeated", "cancelling", "impulse"):
        return _along_time(family, x, salt)
    return x


def _along_time(family: str, x: Tensor, salt: int) -> Tensor:
    T = x.shape[1]
    if family == "repeated":  # a Zipf vocabulary of five tokens, scaled to unit RMS
        weights = 1.0 / torch.arange(1, 6, dtype=torch.float64)
        # q, k and v of a token belong together: the same ids for all three
        ids = torch.multinomial(weights, T, replacement=True, generator=rng(T, "zipf"))
        x = x[:, ids.clamp(max=T - 1)]
        return x / x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-3)
    if family == "cancelling" and salt > 0:  # every second key repeats, with the value negated
        even = torch.arange(T) // 2 * 2
        sign = torch.where(torch.arange(T) % 2 == 1, -1.0, 1.0) if salt == 2 else torch.ones(T)
        noise = 2.0**-6 * x if salt == 2 else 0.0
        return x[:, even] * sign[:, None, None].double() + noise
    if family == "impulse" and salt > 0:  # one loud token at the start, silence after it
        quiet = torch.zeros(T, dtype=torch.float64)
        quiet[0] = 1.0
        quiet[T // 2] = 2.0**-4
        return x * quiet[:, None, None]
    return x


def weights(shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """Weights of a norm: 0.2 to 3, every fourth one negative, every eighth one tiny."""
    x = 0.2 + 2.8 * torch.rand(shape, generator=g, dtype=torch.float64)
    kind = torch.randint(0, 8, shape, generator=g)
    x = torch.where(kind == 0, x * 2.0**-8, x)
    return torch.where(kind % 4 == 1, -x, x)


def decays(
    family: str, heads: int, g: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """log_decay (H,) float64, exactly representable in float32; ``dtype`` is the inputs'."""
    if family == "slopes":
        made = _model_slopes(heads, g)
    elif family == "mixture":
        kinds = torch.randint(0, 5, (heads,), generator=g).tolist()
        names = ("none", "slow", "mild", "strong", "reset")
        made = torch.cat([decays(names[k], 1, g) for k in kinds]) if kinds else torch.zeros(0)
    elif family == "exactly":  # a factor of 1, or one that is 0 in the format of the inputs
        gone = -1000.0 if dtype == torch.float64 else -200.0
        made = torch.where(torch.rand(heads, generator=g) < 0.8, 0.0, gone)
    else:
        low, high = {
            "none": (0.0, 0.0), "slow": (-1e-3, -1e-5), "mild": (-0.2, -1e-3),
            "strong": (-30.0, -3.0), "reset": (-1e4, -200.0),
        }[family]  # fmt: skip
        made = low + (high - low) * torch.rand(heads, generator=g, dtype=torch.float64)
        # Finite, times the tokens of any sequence too, and beyond every integer.
        made = torch.where(made < -8e3, FASTEST, made)
    return made.float().double()


def _model_slopes(heads: int, g: torch.Generator) -> Tensor:
    """Slopes of neighbouring heads of a 64-head model, at a random layer of 80: fast to slow."""
    layer = int(torch.randint(0, 79, (1,), generator=g))
    step = max(1, 64 // max(heads, 1))
    first = int(torch.randint(0, step, (1,), generator=g))
    exponents = torch.arange(first, first + step * heads, step, dtype=torch.float64) % 64
    return -(2.0 ** (-(exponents + 1) / 8)) * (1 - layer / 79 + 1e-5)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same values in memory of another shape; (..., H, D), at least three axes.

    But ``expanded`` gives all heads the memory, and so the values, of the first.
    """
    if layout in ("dense", "far") or x.numel() == 0:
        return x.contiguous()
    if layout == "transposed":  # what is a row lies a column apart
        return x.mT.contiguous().mT
    if layout == "tokenfirst":  # (T, B, H, D) in memory
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "expanded":
        return x[..., :1, :].contiguous().expand_as(x)
    if layout == "headfirst":  # (B, H, T, D) in memory
        return x.transpose(-2, -3).contiguous().transpose(-2, -3)
    sizes = list(x.shape)
    step = 2 if layout == "stepped" else 1
    # fused: as the second of three slices of the rows of one projection; padded: rows a little
    # longer than needed, with one number before them, so that nothing begins at 16 bytes
    sizes[-1] = {"fused": 3 * sizes[-1], "padded": sizes[-1] + 3, "stepped": 2 * sizes[-1]}[layout]
    room = torch.zeros(sizes, dtype=x.dtype)
    first = {"fused": x.shape[-1], "padded": 1, "stepped": 0}[layout]
    made = room[..., first : first + step * x.shape[-1] : step]
    made.copy_(x)
    return made


def layout_of(case: Case, turn: int, count: int = 3) -> str:
    """The layout of the ``turn``-th of ``count`` tensors.

    In a case about strides one of them has it alone, as often as all have it.
    """
    chosen = case.seed % (count + 1)
    alone = case.law == "strides" and chosen < count
    return case.traits["layout"] if not alone or turn == chosen else "dense"


def state_layout(layout: str) -> str:
    """The layout of a state where that of tokens has this name: its rows are never shared."""
    return "dense" if layout == "expanded" else layout


def far_ones(case: Case, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Which tensors a case with layout ``far`` stretches over 2^31 elements, each along an axis."""
    if case.traits["layout"] != "far":
        return {}
    made = {}
    for n, (name, x) in enumerate(tensors.items()):
        axes = [d for d in range(x.dim() - 1) if x.shape[d] > 1]
        # of three members, no stride need be beyond 2^31 for an offset to be
        axes = [d for d in axes if x.shape[d] > 2] or axes
        if x.is_floating_point() and axes:
            made[name] = axes[(case.seed // 2 + n) % len(axes)] if case.seed % 2 else axes[0]
    return made


def unit_scale(K: int, g: torch.Generator, *, tame: bool = False) -> float:
    """K**-0.5 as in the model, or a number that nobody would have hard-coded.

    One is too small for float16; ``tame`` leaves it out.
    """
    choices = (max(K, 1) ** -0.5, 0.37, 1.0, 3.1e-7)[: 3 if tame else 4]
    return choices[int(torch.randint(0, len(choices), (1,), generator=g))]


def power_of_two(g: torch.Generator) -> float:
    """A scale that rounds nothing."""
    return math.ldexp(1.0, int(torch.randint(-3, 2, (1,), generator=g)))
