"""What the contracts of row-wise ops share: how their cases are drawn and laid out.

Letters: B batch, T tokens, D channels of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.formats import of_dtype
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Pick

__all__ = [
    "EPS", "FAMILIES", "LAYOUTS", "RANKS", "family", "floats", "layout", "numbers", "parted",
    "ranked", "rows", "scaled", "units",
]  # fmt: skip

# How many axes stand before the channels; rank3 is (B, T, D), what laws speak of.
RANKS = ("rank3", "rank1", "rank2", "rank4")
LAYOUTS = ("dense", "fused", "padded", "stepped", "transposed", "tokenfirst", "far")
# huge: squares near the end of float32; signs: one power of two a row, with either sign.
FAMILIES = (*values.ROWS, "huge", "signs")
EPS = (1e-6, 1e-5, 1e-3)
LONGEST = 2.0**62.5  # a huge row: its squares, or those of the sum of two, still fit in float32
FEW = (*range(1, 14), 15, 16, 17)
MANY = (31, 33, 48, 64, 65, 96, 100, 129)


def rows(pick: Pick, law: str, dims: Sequence[int], *, small: bool) -> dict[str, int]:
    """B, T and D: few rows, or enough of them for a mean to be one."""
    least = 2 if law in ("permutation", "determinism", "bias") else 1
    counts: tuple[Sequence[int], ...] = (FEW[least - 1 :], MANY[:4] if small else MANY)
    if law == "bias":
        counts = ((64, 100),)
    if law == "authority":
        counts = (FEW, MANY, MANY, MANY, (0,))
    batches = (1, 2, 3, 0) if law == "authority" else (1, 2, 3)
    B = max(pick(batches), least if law == "permutation" else 0)
    T = pick(pick(counts))
    D = pick(dims)
    most = (1 << 13) if small else (1 << 16)  # elements
    return {"B": B, "T": min(T, max(least, most // (max(B, 1) * D))), "D": D}


def ranked(pick: Pick, law: str, axes: dict[str, int]) -> tuple[dict[str, int], str]:
    """The rank of a case: another one than 3 only where no law asks about letters."""
    kind = "rank3"
    if law in ("authority", "strides"):
        kind = pick((*RANKS[:1] * 4, *RANKS[1:]) if law == "authority" else ("rank3", "rank4"))
    return (axes | {"B": 1, "T": 1} if kind == "rank1" else axes), kind


def layout(pick: Pick, law: str) -> str:
    """How the case lies in memory."""
    # channels that are no neighbours twice: only one argument may have them
    return (
        pick((*LAYOUTS[1:], *LAYOUTS[3:5]))
        if law == "strides"
        else pick(("dense", "dense", "fused", "padded"))
    )


def family(pick: Pick, law: str) -> str:
    """The kind of values."""
    if law == "exact":
        return "signs"
    if law == "bias":
        return pick(("normal", "small", "heavy"))
    return pick(values.ROWS if law == "groups" else FAMILIES[:-1])


def numbers(case: Case, shape: tuple[int, ...], g: Generator, *, salt: int = 0) -> Tensor:
    """Float64 rows of the family of a case, which the dtype of the case holds."""
    kind, narrow = case.traits["values"], case.dtype == "f16"
    if kind == "signs":
        power = torch.randint(4, 8, (*shape[:-1], 1), generator=g)
        sign = torch.randint(0, 2, shape, generator=g) * 2.0 - 1
        return sign.double() * 2.0**power
    if kind == "huge":
        x = torch.randn(shape, generator=g, dtype=torch.float64).clamp(-4, 4)
        return x * (2.0**13 if narrow else LONGEST / x.square().sum(-1, keepdim=True).sqrt())
    x = values.tokens(kind, shape, g, salt=salt, tame=narrow and case.law == "groups")
    return x.clamp(-3e4, 3e4) if narrow else x


def floats(
    case: Case, x: Tensor, turn: int, count: int, dtype: torch.dtype | None = None
) -> Tensor:
    """(B, T, D) in the dtype, rank and memory of the case: the ``turn``-th of ``count``."""
    x, layout = x.to(dtype or case.torch_dtype), values.layout_of(case, turn, count)
    kind = case.traits.get("rank", "rank3")
    if kind == "rank4":
        return _with_heads(x, layout)
    x = values.laid_out(x, layout)
    if kind == "rank1":
        return x[0, 0]
    return x.flatten(0, 1) if kind == "rank2" else x


def _with_heads(x: Tensor, layout: str) -> Tensor:
    """(B, T, D) as (B, T / H, H, D): H heads, which may be the second of three parts of a token."""
    T = x.shape[1]
    H = next((n for n in (3, 2, 5, 7) if T % n == 0 and T), max(T, 1))
    x = torch.unflatten(x, 1, (T // H, H))
    if layout == "fused":
        fused = values.laid_out(x.flatten(-2), layout)
        return torch.unflatten(fused, -1, (H, x.shape[-1]))
    return values.laid_out(x, layout)


def parted(x: Tensor, parts: int) -> Tensor:
    """(..., D) as (..., parts, D / parts)."""
    return x.reshape(*x.shape[:-1], parts, x.shape[-1] // parts)


def units(x: Tensor, eps: float) -> bool:
    """Whether normalised rows are 1 and -1 in any 16-bit format.

    All entries of a row have the size of one power of two, so that their mean square is exact, and
    ``eps`` changes its root by less than a quarter of the last place of float16, as does the error
    of the root itself.
    """
    if x.numel() == 0:
        return True
    if of_dtype(x.dtype).u < 2.0**-11:
        return False
    size = x.double().abs()
    mantissa, _ = torch.frexp(size)
    alike = bool((size == size[..., :1]).all() and (mantissa == 0.5).all())
    return alike and eps < 2.0**-13 * float(size.min()) ** 2


def scaled(call: Call, names: Sequence[str], g: Generator) -> Call | None:
    """Rows times 2^n and eps times 4^n: the normalised rows stay, whatever eps is beside them."""
    n = (-10, 6)[int(torch.randint(0, 2, (1,), generator=g))]
    changed = {name: call.tensors[name] * 2.0**n for name in names}
    largest = max((float(x.abs().max()) for x in changed.values() if x.numel()), default=0.0)
    most = min(2.0**57, of_dtype(call.tensors[names[0]].dtype).largest / 2)
    if largest > most:
        return None
    return replace(
        call.with_tensors(**changed), params={**call.params, "eps": call.params["eps"] * 4.0**n}
    )
