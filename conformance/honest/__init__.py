"""Right implementations, deliberately different from each other, that the suite must accept.

They differ in chunk size, order of summation, splits, and in which allowed roundings they take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lingspec.conformance.adapter import implements

__all__ = ["honest"]

F = TypeVar("F", bound=Callable[..., Any])


def honest(
    op: str, *, differs: str, profile: str | Mapping[str, str] | None = None, **declared: Any
) -> Callable[[F], F]:
    """Declare a right implementation of ``op``; ``differs`` says in what it is unlike the others.

    The remaining arguments are those of `implements`.
    """
    return implements(op, profile=profile, differs=differs, **declared)
