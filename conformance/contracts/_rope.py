"""What the contracts of the rotary position embedding share: positions, tables, heads.

Letters: B batch, T tokens, H heads, K head dim, R rotary dims, F = R/2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.case import Case
from lingspec.conformance.contract import Pick

__all__ = [
    "DIMS", "FAMILIES", "LAYOUTS", "PLACES", "TABLES", "axes", "doubled", "family", "heads",
    "layout", "places", "positions", "quarter_turns", "table", "tables",
]  # fmt: skip

# Where the tokens stand. apart: every sequence elsewhere; scattered: in no order; million: up to
# 1,048,575.
PLACES = (
    "from0", "from1", "from255", "from257", "from131071", "from262143", "apart", "scattered",
    "million",
)  # fmt: skip
TABLES = ("unit", "louder", "turns")  # louder: times YaRN's magnitude; turns: quarters of a circle
FAMILIES = (*values.ROWS, "whole")
LAYOUTS = values.LAYOUTS
# K and R: all dims rotated, half, a few, one pair; no power of two.
DIMS = (
    (8, 4), (8, 8), (2, 2), (8, 2), (16, 8), (10, 6), (40, 20), (64, 32), (64, 64), (96, 48),
    (80, 2), (128, 64), (128, 32), (128, 128),
)  # fmt: skip
FEW = (*range(1, 14), 15, 16, 17)
MANY = (31, 33, 48, 64, 65, 100, 129)
THETAS = (10_000.0, 600_000.0, 6_000_000.0)


def axes(pick: Pick, law: str, dims: Sequence[tuple[int, int]], *, small: bool) -> dict[str, int]:
    """B, T, H, K and R: few tokens, or enough of them for a mean to be one."""
    least = 2 if law in ("permutation", "determinism") else 1
    counts: tuple[Sequence[int], ...] = (FEW[least - 1 :], MANY[:4] if small else MANY)
    if law == "bias":
        counts = ((64, 100),)
    if law == "authority":
        counts = (FEW, MANY, MANY, (0,))
    batches = (1, 2, 3, 0) if law == "authority" else (1, 2, 3)
    B = max(pick(batches), least if law == "permutation" else 0)
    K, R = pick(dims)
    H = pick((2, 3, 4, 5) if law in ("permutation", "sharding") else (1, 2, 3, 5))
    most = min(1 << 12, 128 * K) if small else 1 << 15  # elements, and heads where each costs
    T = min(pick(pick(counts)), max(least, most // (max(B, 1) * H * K)))
    return {"B": B, "T": T, "H": H, "K": K, "R": R}


def layout(pick: Pick, law: str) -> str:
    """How the case lies in memory."""
    if law != "strides":
        return pick(("dense", "dense", "fused"))
    # Dims that are no neighbours three times: of several arguments only one may have them.
    return pick((*LAYOUTS[1:], *2 * LAYOUTS[4:6]))


def family(pick: Pick, law: str) -> str:
    """The kind of values."""
    if law == "exact":
        return "whole"
    return pick(("normal", "small", "heavy") if law == "bias" else FAMILIES[:-1])


def places(pick: Pick, law: str) -> str:
    """Where the tokens stand; a token that changes with its batch row shows wrong rows."""
    return pick(PLACES[6:]) if law == "permutation" else pick(("apart", *PLACES))


def tables(pick: Pick, law: str) -> str:
    """The kind of table."""
    return "turns" if law == "exact" else pick(TABLES[:2])


def heads(case: Case, shape: tuple[int, ...], g: Generator, *, salt: int = 0) -> Tensor:
    """Float64 heads of the family of a case; integers without zero, so that every term shows."""
    kind = case.traits["values"]
    if kind == "whole":
        sign = torch.randint(0, 2, shape, generator=g) * 2.0 - 1
        return sign.double() * torch.randint(1, 200, shape, generator=g)
    return values.tokens(kind, shape, g, salt=salt, tame=case.dtype == "f16")


def positions(kind: str, B: int, T: int, g: Generator) -> Tensor:
    """(B, T) int64."""
    steps = torch.arange(T).expand(B, T)
    if kind == "million":
        return (1_048_576 - T + steps).clone()
    if kind == "scattered":
        return torch.randint(0, 1 << 18, (B, T), generator=g)
    if kind == "apart":
        return torch.randint(0, 1 << 17, (B, 1), generator=g) + steps
    return int(kind.removeprefix("from")) + steps


def table(case: Case, shape: tuple[int, int, int], g: Generator) -> tuple[Tensor, Tensor]:
    """Float64 cosines and sines (B, T, F) of the positions of a case."""
    B, T, F = shape
    if case.traits["table"] == "turns":
        quarter = torch.randint(0, 4, shape, generator=g)
        circle = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)
        return circle[quarter], circle[(quarter - 1) % 4]
    at = positions(case.traits["places"], B, T, g).double()
    pairs = torch.arange(F, dtype=torch.float64) / max(F, 1)
    angle = at[..., None] * THETAS[case.seed % 3] ** -pairs
    m = 1.2079441541679836 if case.traits["table"] == "louder" else 1.0
    return m * angle.cos(), m * angle.sin()


def quarter_turns(tensors: Mapping[str, Any]) -> bool:
    """Whether every rotation is by quarters of a circle."""
    c, s = tensors["cos"], tensors["sin"]
    whole = (c == c.round()) & (s == s.round()) & (c.abs() + s.abs() == 1)
    return bool(whole.all())


def doubled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A table of twice the size."""
    return {n: 2 * tensors[n] for n in ("cos", "sin")}
