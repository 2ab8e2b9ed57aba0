"""Emulated implementations: the lines of the reference with casts at the rounding points."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lingspec.conformance.accuracy.profiles import Profile

__all__ = ["casting"]


def casting(
    profile: Profile, points: tuple[str, ...] | None = None
) -> Callable[[str, Tensor], Tensor]:
    """The policy that rounds where ``profile`` allows it; at ``points`` only, if given."""

    def policy(point: str, x: Tensor) -> Tensor:
        form = profile.points.get(point)
        if form is None or (points is not None and point not in points):
            return x
        return form.cast(x)

    return policy
