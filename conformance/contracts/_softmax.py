"""What the contracts of softmax attention share: queries, keys and values that hurt.

Letters: Q queries, J keys, D dims of a key, V value dim; any axes before them.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lingspec.conformance import values

__all__ = [
    "AIMED", "EXACT", "EXTREME", "FAINT", "FAMILIES", "RAMPS", "SHIFTED", "aim", "coherent",
    "faint", "plain", "ramp", "scale_of", "shifts",
]  # fmt: skip

AIMED = ("peaked", "first", "last")  # one key takes most of the mass: any, the first, the last
LOUD = {"large": 1e3, "huge": 1e5}  # sizes of logits
SHIFTED = "shifted"  # one and the same added to all logits
EXTREME = ("huge", SHIFTED)
FAINT = "faint"  # keys of next to no weight, whose values are as much larger
RAMPS = ("ascending", "descending")  # the largest logit rises, or falls, with every key
EXACT = "pointing"  # each query has one key, with a weight of exactly 1
FAMILIES = (
    "normal", "small", "heavy", "mixed", "zeros", "onehot", "positive", *AIMED, *RAMPS, *LOUD,
    SHIFTED, FAINT, EXACT,
)  # fmt: skip
# log2 of how much less some keys weigh: from the last place of bfloat16 to beyond that of float64.
DEPTHS = (9, 16, 24, 33, 43, 60)
MASS = 8.0  # the logit of an aimed key beside those of others, which are about 0
STEEP = 12.0  # a ramp goes from - to + this
SIZES = (6, 11, 15, 17.6)  # log2 of the shift of all logits: up to 2e5
POINTED = 128.0  # by twice this at least other logits are less than that of the key pointed at


def coherent(family: str) -> bool:
    """Whether equal inputs repeat."""
    return family in values.COHERENT or family == EXACT


def scale_of(D: int, g: Generator, law: str | None) -> float:
    """D**-0.5, that times a square of mscale, or a number that nobody would have hard-coded."""
    if law == "exact":
        return values.power_of_two(g)
    choices: tuple[float, ...] = (D**-0.5, 1.87 * D**-0.5, 0.37)
    if law != "bias":  # weights that are nearly equal are rounded the same way
        choices = (*choices, 1e-3)
    return choices[int(torch.randint(0, len(choices), (1,), generator=g))]


def plain(family: str, shape: tuple[int, ...], g: Generator, salt: int, scale: float) -> Tensor:
    """Queries (salt 0), keys (1) or values (2) before one is aimed at another."""
    if family == EXACT:
        if salt == 2:
            return values.tokens("wide", shape, g, salt=salt)
        # no larger, for operands rounded to tf32 to leave a logit that says something
        entry = 2.0 ** math.ceil(math.log2(POINTED / scale) / 2)
        return entry * (2.0 * torch.randint(0, 2, shape, generator=g).double() - 1)
    known = family if family in values.FAMILIES else "normal"
    x = values.tokens(known, shape, g, salt=salt)
    if family in LOUD and salt < 2:
        x = x * math.sqrt(LOUD[family] / (scale * math.sqrt(shape[-1])))
    return x


def aim(keys: Tensor, family: str, scale: float) -> Tensor:
    """The queries that find ``keys`` (..., D), each its own."""
    return keys if family == EXACT else keys * (MASS / (scale * keys.shape[-1]))


def ramp(count: int, family: str, scale: float, D: int) -> Tensor:
    """(J, D) what is added to the keys; queries are all 1 there."""
    steps = torch.linspace(-STEEP, STEEP, max(count, 1), dtype=torch.float64)[:count]
    steps = steps if family == "ascending" else -steps
    return (steps / (scale * D))[:, None].expand(count, D)


def faint(count: int, g: Generator, scale: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """By how much the logits of ``count`` keys are less, over ``scale``; what their values gain.

    As much as weight is lost: what they add to an output has the size of what others add.
    """
    # values of float16 can be no louder
    choices = DEPTHS[:1] if dtype == torch.float16 else DEPTHS
    depth = choices[int(torch.randint(0, len(choices), (1,), generator=g))]
    runs = (1, 16, count // 3 + 1)  # keys alone, a tile of them, as many tiles as there are
    run = runs[int(torch.randint(0, len(runs), (1,), generator=g))]
    less = torch.rand(-(-count // run), generator=g, dtype=torch.float64) < 0.5
    less = less.repeat_interleave(run)[:count]
    return less * (depth * math.log(2) / scale), 2.0**depth


def shifts(g: Generator, scale: float) -> tuple[float, float]:
    """A channel of queries and of keys, powers of two, that shift all logits."""
    log = SIZES[int(torch.randint(0, len(SIZES), (1,), generator=g))]
    sign = -1.0 if bool(torch.rand((), generator=g) < 0.5) else 1.0
    both = math.floor(log - math.log2(scale))
    return 2.0 ** (both // 2), sign * 2.0 ** (both - both // 2)
