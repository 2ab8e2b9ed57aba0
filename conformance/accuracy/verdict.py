"""Is a tensor what it must be? The first question that fails says why.

Order of questions: dtype, shape, device, finite, elements, slices, gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.conformance.accuracy.limits import Limits

__all__ = ["Problem", "excess", "judge", "signal"]

SLICE_ROWS = 48  # fewer independent rows than this say nothing about a mean
SIGNAL = 0.10  # the share of a tensor's RMS that its median limit may be, for the case to count


@dataclass(frozen=True)
class Problem:
    """What is wrong with one tensor."""

    kind: str  # dtype, shape, finite, element, slice, gain
    text: str
    where: str = ""
    excess: float = math.inf  # error over limit
    got_want: str = ""


def judge(
    got: Tensor, want: Limits, dtype: torch.dtype, variants: Sequence[Tensor] = ()
) -> Problem | None:
    """The first thing that is wrong with ``got``, or None.

    ``variants`` are the same tensor from emulated honest implementations; without them only
    elements are judged.
    """
    name = want.name
    if got.dtype != dtype:
        return Problem(
            "dtype", f"{name} has dtype {short(got.dtype)}, but must have {short(dtype)}"
        )
    if got.shape != want.value.shape:
        shape, right = tuple(got.shape), tuple(want.value.shape)
        return Problem("shape", f"{name} has shape {shape}, but must have {right}")
    wide = got.double()
    unfit = ~wide.isfinite() & (wide != want.value)  # true for NaN
    if bool(unfit.any()):
        at = _index(unfit.nonzero()[0])
        text = f"{name} is not finite where the authority is"
        return Problem("finite", text, _where(name, at), got_want=_got_want(wide, want, at))
    off = error(got, want)
    over = excess(off, want)
    if over.numel() and float(over.max()) > 1:
        return _element(wide, want, over)
    if variants and not want.coherent:
        return _statistics(off, want, variants)
    return None


def error(got: Tensor, want: Limits) -> Tensor:
    """How far each element is from the authority; -inf is no distance from itself."""
    wide = got.double()
    return torch.where(wide == want.value, 0.0, wide - want.value)


def excess(error: Tensor, want: Limits) -> Tensor:
    """|error| over limit, element by element; 0 where both are 0."""
    ratio = error.abs() / want.limit
    return torch.where(error == 0, torch.zeros_like(ratio), ratio)


def signal(want: Limits) -> bool:
    """Whether limits are small beside values, for at least one head: the case can tell."""
    there = want.value.isfinite()
    if not bool(there.any()):
        return False
    rms = want.value[there].square().mean().sqrt()
    return bool(rms > 0) and float(want.limit[there].median() / rms) <= SIGNAL


def _element(got: Tensor, want: Limits, over: Tensor) -> Problem:
    at = _index((over == over.max()).nonzero()[0])
    text = f"{want.name} is further from the authority than the declared roundings allow"
    factor = float(over.max())
    return Problem("element", text, _where_worst(want, over), factor, _got_want(got, want, at))


def _statistics(off: Tensor, want: Limits, variants: Sequence[Tensor]) -> Problem | None:
    """Slices and gain, per head if there are heads, of the elements that have room to err."""
    s, axis = want.deviation, want.heads
    live = (s > 0) & want.value.isfinite()

    def slices(x: Tensor) -> list[Tensor]:
        return [x] if axis is None else list(x.unbind(axis))

    def in_deviations(x: Tensor) -> list[Tensor]:
        return slices(torch.where(live, x / s, 0.0))

    honest = [in_deviations(error(v, want)) for v in variants]
    seen, drifts = in_deviations(off), in_deviations(want.drift)
    signals = in_deviations(want.value)
    for h, asked in enumerate(slices(live)):
        rows = int(asked.any(-1).sum()) if asked.dim() else 0
        if rows < SLICE_ROWS:
            continue
        zs = [of[h] for of in honest]
        place = "" if axis is None else f" of head {h}"
        found = _slice(seen[h], zs, drifts[h], rows, int(asked.sum()), want.name, place)
        found = found or _gain(seen[h], zs, signals[h], drifts[h], want.name, place)
        if found:
            return found
    return None


def _slice(
    z: Tensor, zs: list[Tensor], drift: Tensor, rows: int, elements: int, name: str, place: str
) -> Problem | None:
    def rms(x: Tensor) -> float:
        return math.sqrt(float(x.square().sum()) / elements)

    # A permitted error that does not average out moves every element, whoever makes it.
    limit = max(1.25 * max(rms(x) for x in zs), 1.0) * (1 + 8 / math.sqrt(rows)) + rms(drift)
    if rms(z) <= limit:
        return None
    text = f"{name}{place} errs as no honest implementation does"
    detail = (
        f"RMS error {rms(z):.3g} standard deviations, limit {limit:.3g} from {len(zs)} variants"
    )
    return Problem("slice", text, f"all of {name}{place}", rms(z) / limit, detail)


def _gain(
    z: Tensor, zs: list[Tensor], w: Tensor, drift: Tensor, name: str, place: str
) -> Problem | None:
    total = float(w.square().sum())
    if total == 0:
        return None
    gain = float((z * w).sum()) / total
    # Errors of one row may be one rounding: rows are independent, elements of a row are not.
    noise = float(w.abs().sum(-1).square().sum().sqrt()) / total
    drifting = float((drift * w.abs()).sum()) / total
    honest = max(abs(float((x * w).sum())) / total for x in zs)
    limit = 1.5 * honest + 10 * noise + drifting + 2.0**-22
    if abs(gain) <= limit or limit > 0.05:
        return None
    text = f"{name}{place} is {1 + gain:.6g} times what it must be"
    detail = f"gain {gain:+.2e}, limit ±{limit:.1e}"
    return Problem("gain", text, f"all of {name}{place}", abs(gain) / limit, detail)


def _where_worst(want: Limits, over: Tensor) -> str:
    """The worst heads in words, and which others are inside."""
    axis = want.heads
    if axis is None:
        at, outside = _index((over == over.max()).nonzero()[0]), int((over > 1).sum())
        more = f"; {outside - 1} more of {over.numel()} outside" if outside > 1 else ""
        return f"{_where(want.name, at)}: {float(over.max()):.3g}× the limit{more}"
    per_head = over.amax([d for d in range(over.dim()) if d != axis])
    bad = [h for h, x in enumerate(per_head.tolist()) if x > 1]
    good = [h for h, x in enumerate(per_head.tolist()) if x <= 1]
    parts = [f"head{'s' if len(bad) > 1 else ''} {_list(bad)}: {float(over.max()):.3g}× the limit"]
    if axis == 2:
        per_token = over.amax([d for d in range(over.dim()) if d != 1])
        tokens = (per_token > 1).nonzero().flatten().tolist()
        parts.append(f"tokens {_list(tokens)}")
    parts.append(f"heads {_list(good)} inside" if good else "no head inside")
    return "; ".join(parts)


def _list(numbers: Sequence[int]) -> str:
    """Numbers with runs folded: 0-3, 7."""
    runs: list[str] = []
    for first, last in _runs(numbers):
        runs.append(str(first) if first == last else f"{first}-{last}")
    return ", ".join(runs[:6]) + (", …" if len(runs) > 6 else "")


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = previous = None
    for n in numbers:
        if previous is not None and n == previous + 1:
            previous = n
            continue
        if start is not None and previous is not None:
            yield start, previous
        start = previous = n
    if start is not None and previous is not None:
        yield start, previous


def _where(name: str, at: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, at))}]"


def _got_want(got: Tensor, want: Limits, at: tuple[int, ...]) -> str:
    limit, y = float(want.limit[at]), float(want.value[at])
    place = ",".join(map(str, at))
    return f"[{place}] {float(got[at]):.7g} / {y:.7g}, limit ±{limit:.2g} ({want.origin(at)})"


def _index(x: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in x)


def short(dtype: torch.dtype) -> str:
    """Its name without `torch.`."""
    return str(dtype).removeprefix("torch.")
