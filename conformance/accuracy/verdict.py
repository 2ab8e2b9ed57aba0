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
            "dtype", f"{name} has dtype {_short(got.dtype)}, but must have {_short(dtype)}"
        )
    if got.shape != want.value.shape:
        shape, right = tuple(got.shape), tuple(want.value.shape)
        return Problem("shape", f"{name} has shape {shape}, but must have {right}")
    wide = got.double()
    if not bool(wide.isfinite().all()):
        at = _index((~wide.isfinite()).nonzero()[0])
        text = f"{name} is not finite where the authority is"
        return Problem("finite", text, _where(name, at), got_want=_got_want(wide, want, at))
    error = wide - want.value
    over = excess(error, want)
    if over.numel() and float(over.max()) > 1:
        return _element(wide, want, over)
    if variants and not want.coherent and want.value.dim() == 4:
        return _statistics(error, want, variants)
    return None


def excess(error: Tensor, want: Limits) -> Tensor:
    """|error| over limit, element by element; 0 where both are 0."""
    ratio = error.abs() / want.limit
    return torch.where(error == 0, torch.zeros_like(ratio), ratio)


def signal(want: Limits) -> bool:
    """Whether limits are small beside values, for at least one head: the case can tell."""
    if want.value.numel() == 0:
        return False
    rms = want.value.square().mean().sqrt()
    return bool(rms > 0) and float(want.limit.median() / rms) <= SIGNAL


def _element(got: Tensor, want: Limits, over: Tensor) -> Problem:
    at = _index((over == over.max()).nonzero()[0])
    text = f"{want.name} is further from the authority than the declared roundings allow"
    factor = float(over.max())
    return Problem("element", text, _where_worst(want.name, over), factor, _got_want(got, want, at))


def _statistics(error: Tensor, want: Limits, variants: Sequence[Tensor]) -> Problem | None:
    """Slices and gain, per head. Axis of heads: 2 of o (B,T,H,V), 1 of states (N,H,K,V)."""
    heads = 2 if want.name in ("o", "dq", "dk", "dv") else 1
    honest = [v.double() - want.value for v in variants]
    for h in range(want.value.shape[heads]):
        index = (slice(None),) * heads + (h,)
        rows = want.value[index].shape[0] * want.value[index].shape[1]
        if rows < SLICE_ROWS:
            continue
        s = want.deviation[index]
        if float(s.min()) <= 0:
            continue
        z, zs = error[index] / s, [e[index] / s for e in honest]
        found = _slice(z, zs, rows, want, h) or _gain(z, zs, want, index, h)
        if found:
            return found
    return None


def _slice(z: Tensor, zs: list[Tensor], rows: int, want: Limits, h: int) -> Problem | None:
    rms, worst = _rms(z), max(_rms(x) for x in zs)
    limit = max(1.25 * worst, 1.0) * (1 + 8 / math.sqrt(rows))
    if rms <= limit:
        return None
    text = f"{want.name} errs in head {h} as no honest implementation does"
    detail = f"RMS error {rms:.3g} standard deviations, limit {limit:.3g} from {len(zs)} variants"
    return Problem("slice", text, f"head {h}, all of {want.name}", rms / limit, detail)


def _gain(
    z: Tensor, zs: list[Tensor], want: Limits, index: tuple[slice | int, ...], h: int
) -> Problem | None:
    w = want.value[index] / want.deviation[index]
    total = float(w.square().sum())
    if total == 0:
        return None
    gain = float((z * w).sum()) / total
    # Errors of one row may be one rounding: rows are independent, elements of a row are not.
    noise = float(w.abs().sum(-1).square().sum().sqrt()) / total
    drift = float((want.drift[index] / want.deviation[index] * w.abs()).sum()) / total
    honest = max(abs(float((x * w).sum())) / total for x in zs)
    limit = 1.5 * honest + 10 * noise + drift + 2.0**-22
    if abs(gain) <= limit or limit > 0.05:
        return None
    text = f"{want.name} of head {h} is {1 + gain:.6g} times what it must be"
    detail = f"gain {gain:+.2e}, limit ±{limit:.1e}"
    return Problem("gain", text, f"head {h}, all of {want.name}", abs(gain) / limit, detail)


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _where_worst(name: str, over: Tensor) -> str:
    """The worst head or row in words, and which others are inside."""
    axis = 2 if name in ("o", "dq", "dk", "dv") and over.dim() == 4 else 1
    if over.dim() < 3:
        return f"{name}, {float(over.max()):.3g}× the limit"
    per_head = over.amax([d for d in range(over.dim()) if d != axis])
    bad = [h for h, x in enumerate(per_head.tolist()) if x > 1]
    good = [h for h, x in enumerate(per_head.tolist()) if x <= 1]
    parts = [f"head{'s' if len(bad) > 1 else ''} {_list(bad)}: {float(over.max()):.3g}× the limit"]
    if axis == 2:
        tokens = (over > 1).any(-1).any(-1).any(0).nonzero().flatten().tolist()
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


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
