"""What the contracts of matrix ops share: where a matrix lies in memory."""

from __future__ import annotations

from torch import Tensor

from lingspec.conformance import values
from lingspec.conformance.case import Case
from lingspec.conformance.contract import Pick

__all__ = ["DIMS", "LAYOUTS", "MANY", "layout", "matrix"]

LAYOUTS = ("dense", "fused", "padded", "stepped", "transposed", "far")
# Primes, powers of two, what lies beside them, and 1.
DIMS = (16, 1, 2, 3, 8, 15, 17, 24, 31, 32, 33, 40, 64, 65, 100)
MANY = (48, 49, 63, 64, 65)  # rows enough for a mean to be one


def layout(pick: Pick, law: str) -> str:
    """How the case lies in memory."""
    return pick(LAYOUTS[1:]) if law == "strides" else pick(("dense", "dense", "fused", "padded"))


def matrix(case: Case, x: Tensor, turn: int, count: int) -> Tensor:
    """``x``, of two axes or more, in the dtype and memory of the ``turn``-th of ``count``."""
    x = x.to(case.torch_dtype)
    kind = values.layout_of(case, turn, count)
    return values.laid_out(x, kind) if x.dim() > 2 else values.laid_out(x.unsqueeze(0), kind)[0]
