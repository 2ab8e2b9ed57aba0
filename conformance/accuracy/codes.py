"""Codes of 8-bit floats: right where the number, by the scale that came with it, rounds to them.

A code is judged by the candidate's own scale, which is judged itself. The quotient x / scale may
err, so its rounding cell is widened; where the scale is a power of two it is exact, and ties must
go to the even code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.formats import FP32
from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.accuracy.verdict import Problem, short

__all__ = ["GRID", "WIDER", "Coded", "WithNaN"]

# Every finite float8_e4m3fn >= 0, rising; those at even places have an even last bit.
GRID = torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
_BETWEEN = (GRID[1:] + GRID[:-1]) / 2
_LOW = torch.cat([torch.zeros(1).double(), _BETWEEN])
_HIGH = torch.cat([_BETWEEN, torch.full((1,), torch.inf).double()])
# x is rounded to float32, the scale's reciprocal is one of a GPU's approximate units or rounded,
# and so is the product.
WIDER = (1 + FP32.u) ** 2 * (1 + profile("fp32").function_error) - 1


@dataclass(frozen=True)
class Coded:
    """The codes of numbers ``x``; ``place`` says which of the scales, counted along, is theirs."""

    name: str
    value: Tensor  # the authority's, as float64
    x: Tensor
    place: Tensor
    scale: str  # the result with the scales
    coherent: bool = True

    def __getitem__(self, index: Any) -> Coded:
        """The codes of a part; the scales are those of the whole."""
        return replace(self, value=self.value[index], x=self.x[index], place=self.place[index])

    def finite(self) -> bool:
        """Whether float32 holds all numbers."""
        return bool(self.x.float().isfinite().all())

    def problem(
        self, got: Tensor, dtype: torch.dtype, _variants: Sequence[Tensor] = (),
        results: Mapping[str, Tensor] | None = None,
    ) -> Problem | None:  # fmt: skip
        """The first code whose cell the number is not in."""
        if got.dtype != dtype:
            return Problem(
                "dtype", f"{self.name} has dtype {short(got.dtype)}, but must have {short(dtype)}"
            )
        if got.shape != self.value.shape:
            shape, right = tuple(got.shape), tuple(self.value.shape)
            return Problem("shape", f"{self.name} has shape {shape}, but must have {right}")
        found = got.double()
        if bool(found.isnan().any()):
            at = _first(found.isnan())
            return Problem("finite", f"{self.name} holds NaN", f"{self.name}[{at}]")
        over = self._excess(found, results)
        if over is None or not over.numel() or float(over.max()) <= 1:
            return None
        at = _first(over == over.max())
        place = tuple(map(int, at.split(", ")))
        said = f"[{at}] {float(found[place]):g} / {float(self.value[place]):g}"
        text = f"{self.name} is not what its number, divided by its scale, rounds to"
        return Problem("element", text, f"{self.name}[{at}]", float(over.max()), said)

    def _excess(self, codes: Tensor, results: Mapping[str, Tensor] | None) -> Tensor | None:
        """How far outside their cells numbers are, in what a quotient may err by.

        None where the scales are not such that anything can be said.
        """
        scales = (results or {})[self.scale].double().flatten()
        fits = int(self.place.max()) < scales.numel() if self.place.numel() else True
        if not fits or not bool(((scales > 0) & scales.isfinite()).all()):
            return None
        scale = scales[self.place]
        quotient = (self.x / scale).clamp(-GRID[-1], GRID[-1])
        size, code = quotient.abs(), codes.abs()
        at = torch.searchsorted(GRID, code)
        out = torch.maximum(_LOW[at] - size, size - _HIGH[at]).clamp(min=0.0)
        other_sign = (codes * quotient < 0) & (code > 0)
        out = torch.where(other_sign, size + code, out)
        exact = (torch.frexp(scale).mantissa == 0.5) & (self.x.float().double() == self.x)
        odd_tie = (at % 2 == 1) & ((size == _LOW[at]) | (size == _HIGH[at]))
        room = WIDER * size
        over = torch.where(out == 0, 0.0, out / room)
        return torch.where(exact & ((out > 0) | odd_tie), torch.inf, over)

    def worst(self, got: Tensor, results: Mapping[str, Tensor]) -> float:
        """The largest distance from a cell, in what a quotient may err by."""
        over = self._excess(got.double(), results)
        return 0.0 if over is None or not over.numel() else float(over.max())

    def typical(self, got: Tensor, results: Mapping[str, Tensor]) -> float:
        """The mean of the same."""
        over = self._excess(got.double(), results)
        if over is None or not over.numel():
            return 0.0
        return float(over.nan_to_num(posinf=1e3).clamp(max=1e3).mean())

    def signal(self) -> bool:
        """Whether there is a code that is not 0."""
        return bool((self.value != 0).any())

    def described(self) -> dict[str, Any]:
        """What decides."""
        return {
            "shape": list(self.value.shape),
            "from": f"the cells of float8_e4m3fn, {WIDER:.3g} of the quotient wider; not wider, "
            "and ties to even, where the scale is a power of two",
        }  # fmt: skip


def _first(where: Tensor) -> str:
    return ", ".join(str(int(i)) for i in where.nonzero()[0])


@dataclass(frozen=True)
class WithNaN:
    """Numbers with limits, and NaN in some places exactly."""

    limits: Limits
    nan: Tensor  # bool

    @property
    def name(self) -> str:
        """The result's name."""
        return self.limits.name

    @property
    def value(self) -> Tensor:
        """What the authority gives."""
        return self.limits.value.masked_fill(self.nan, torch.nan)

    @property
    def coherent(self) -> bool:
        """Whether equal inputs repeat."""
        return self.limits.coherent

    def __getitem__(self, index: Any) -> WithNaN:
        """What is expected of a part."""
        return WithNaN(self.limits[index], self.nan[index])

    def finite(self) -> bool:
        """Whether the numbers are."""
        return self.limits.finite()

    def problem(
        self, got: Tensor, dtype: torch.dtype, variants: Sequence[Tensor] = (),
        results: Mapping[str, Tensor] | None = None,
    ) -> Problem | None:  # fmt: skip
        """NaN where it must be and nowhere else, then the numbers."""
        if got.shape == self.nan.shape and bool((wrong := got.isnan() != self.nan).any()):
            at = _first(wrong)
            there = bool(self.nan[tuple(map(int, at.split(", ")))])
            text = f"{self.name} is {'a number' if there else 'NaN'} where the authority is not"
            return Problem("finite", text, f"{self.name}[{at}]")
        clean = [v.masked_fill(self.nan, 0.0) for v in variants]
        return self.limits.problem(self._clean(got), dtype, clean, results)

    def _clean(self, got: Tensor) -> Tensor:
        return got.masked_fill(self.nan, 0.0) if got.shape == self.nan.shape else got

    def worst(self, got: Tensor, results: Mapping[str, Tensor] | None = None) -> float:
        """Of the numbers."""
        return self.limits.worst(self._clean(got), results)

    def typical(self, got: Tensor, results: Mapping[str, Tensor] | None = None) -> float:
        """Of the numbers."""
        return self.limits.typical(self._clean(got), results)

    def signal(self) -> bool:
        """Of the numbers."""
        return self.limits.signal()

    def described(self) -> dict[str, Any]:
        """The numbers, and how many NaN."""
        return {**self.limits.described(), "NaN": f"{int(self.nan.sum())} elements"}
