"""At which points the lines of an op ask whether they may round."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.accuracy.formats import FP32, Format
from lingspec.conformance.accuracy.profiles import MODIFIERS, NAMES, Profile, profile
from lingspec.conformance.contract import Contract
from lingspec.conformance.plan import draw
from lingspec.reference.rounding import POINTS

__all__ = ["asked"]

CASES = 4  # the first ones that are drawn: every line of an op runs in one of them
DECLARABLE = {
    p for name in (*NAMES, *(f"fp32+{m}" for m in MODIFIERS)) for p in profile(name).points
}


class _Noting(dict[str, Format]):
    """No points, and those that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return default

    def __contains__(self, key: object) -> bool:
        self.seen.add(str(key))
        return False


def asked(of: Contract) -> list[str]:
    """The points of ``of`` that a profile may round at, in the order of `POINTS`."""
    if of.algebra.bits:
        return []
    noting = _Noting()
    used = Profile("noting", FP32, noting)
    for index in range(CASES):
        of.authority(of.make(draw(of, "authority", "native", "f32", 0, index)), used)
    if of.gradients is not None:
        of.gradients(of.make(draw(of, "gradients", "native", "f32", 0, 0)), used)
    return [point for point in POINTS if point in noting.seen & DECLARABLE]
