"""What the judge knows of a candidate, and what a call of it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["CandidateInfo", "Outcome", "TargetRefused"]


class TargetRefused(RuntimeError):  # noqa: N818 - a refusal, reported as such
    """The target cannot be had; ``kind`` is ``usage``, ``environment`` or ``integrity``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return TargetRefused, (self.kind, str(self))


@dataclass(frozen=True)
class CandidateInfo:
    """What a candidate declares, as its process told it."""

    index: int
    name: str
    op: str
    profile: str | dict[str, str] | None
    backward: bool
    array: str
    cost: str
    deterministic: bool
    batch_invariant: bool
    takes: list[tuple[str, int, bool]] | None  # name, kind of parameter, whether it has a default
    extra: dict[str, Any]
    nan_safe: bool = False  # NaN in what is not read changes nothing
    chooses: bool = True  # it has a `supports`


@dataclass
class Outcome:
    """What one call came to: ``ok``, ``wrong`` (not a result), ``crash``, ``timeout``, ``forged``.

    ``tampered`` says what the candidate did to what is the judge's, since it was last asked.
    """

    status: str
    outputs: list[Tensor] = field(default_factory=list)
    error: str = ""
    trace: str = ""
    shared: list[bool] = field(default_factory=list)
    device: list[str] = field(default_factory=list)
    changed: str | None = None  # an input, or memory around it, that is not what it was
    overwritten: str | None = None  # a result of the call before, which this one changed
    mutated: dict[str, Tensor] = field(default_factory=dict)
    tampered: list[str] = field(default_factory=list)
