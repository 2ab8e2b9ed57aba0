"""Wrong implementations, each named by its mistake, that the suite must reject.

A mutant may not import the reference: it runs in the candidate's process, where that is blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lingspec.conformance.adapter import implements

__all__ = ["mutant"]

F = TypeVar("F", bound=Callable[..., Any])


def mutant(
    op: str,
    *,
    law: str | tuple[str, ...],
    source: str,
    looks_like: str,
    profile: str | Mapping[str, str] | None = None,
    **declared: Any,
) -> Callable[[F], F]:
    """Declare a wrong implementation of ``op``.

    Args:
        op:         The op that it gets wrong.
        law:        The law (or laws) that must be among those broken, by file name in `laws/`.
        source:     Where this mistake was made: a known bug's id and address, or "constructed".
        looks_like: The mistake in words that a failure report can use ("the last, partial chunk
                    is decayed as if it were full").
        profile:    As for `implements`; the mutant must break even what it declares.
        declared:   The other arguments of `implements`.
    """
    laws = (law,) if isinstance(law, str) else tuple(law)
    return implements(
        op, profile=profile, laws=laws, source=source, looks_like=looks_like, **declared
    )
