"""What the contracts of row-wise ops share: how their cases are drawn and laid out.

Letters: B batch, T tokens, D channels of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lingspec.conformance import values
from lingspec.conformance.case import Case
from lingspec.conformance.contract import Pick

__all__ = ["LAYOUTS", "RANKS", "floats", "layout", "ranked", "rows"]

# How many axes stand before the channels; rank3 is (B, T, D), what laws speak of.
RANKS = ("rank3", "rank1", "rank2", "rank4")
LAYOUTS = ("dense", "fused", "padded", "stepped", "transposed", "tokenfirst", "far")
FEW = (*range(1, 14), 15, 16, 17)
MANY = (31, 33, 48, 64, 65, 96, 100, 129)


def rows(pick: Pick, law: str, dims: Sequence[int], *, small: bool) -> dict[str, int]:
    """B, T and D: few rows, or enough of them for a mean to be one."""
    least = 2 if law in ("permutation", "determinism", "bias") else 1
    counts: tuple[Sequence[int], ...] = (FEW[least - 1 :], MANY[:4] if small else MANY)
    if law == "bias":
        counts = ((64, 100),)
    if law == "authority":
        counts = (FEW, MANY, MANY, (0,))
    batches = (1, 2, 3, 0) if law == "authority" else (1, 2, 3)
    B = max(pick(batches), least if law == "permutation" else 0)
    T = pick(pick(counts))
    D = pick(dims)
    most = (1 << 13) if small else (1 << 16)  # elements
    return {"B": B, "T": min(T, max(least, most // (max(B, 1) * D))), "D": D}


def ranked(pick: Pick, law: str, axes: dict[str, int]) -> tuple[dict[str, int], str]:
    """The rank of a case; another one than 3 only where no law asks about letters."""
    kind = pick((*RANKS[:1] * 4, *RANKS[1:])) if law == "authority" else "rank3"
    return (axes | {"B": 1, "T": 1} if kind == "rank1" else axes), kind


def layout(pick: Pick, law: str) -> str:
    """How the case lies in memory."""
    return pick(LAYOUTS[1:]) if law == "strides" else pick(("dense", "dense", "fused", "padded"))


def floats(case: Case, x: Tensor, turn: int, dtype: torch.dtype | None = None) -> Tensor:
    """(B, T, D) in the dtype, rank and memory of the case; ``turn`` counts its arguments."""
    x = values.laid_out(x.to(dtype or case.torch_dtype), values.layout_of(case, turn))
    kind = case.traits.get("rank", "rank3")
    if kind == "rank1":
        return x[0, 0]
    if kind == "rank2":
        return x.flatten(0, 1)
    return x.unsqueeze(1) if kind == "rank4" else x
