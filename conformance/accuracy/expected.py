"""What a result must be: numbers with limits, or a choice among several right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lingspec.conformance.accuracy.verdict import Problem

__all__ = ["Expected"]


class Expected(Protocol):
    """One result of a call, as the authority expects it.

    `Limits` are numbers; a discrete result, such as the experts of a token, is a class of its own,
    which may look at the candidate's other results: what is right may depend on what it chose.
    """

    @property
    def name(self) -> str:
        """The result's name."""

    @property
    def value(self) -> Tensor:
        """What the authority gives, float64."""

    @property
    def coherent(self) -> bool:
        """Whether equal inputs repeat, so that statistics say nothing."""

    def __getitem__(self, index: Any) -> Expected:
        """What is expected of a part."""

    def finite(self) -> bool:
        """Whether it can be judged at all."""

    def problem(
        self,
        got: Tensor,
        dtype: torch.dtype,
        variants: Sequence[Tensor],
        results: Mapping[str, Tensor],
    ) -> Problem | None:
        """The first thing that is wrong with ``got``; ``results`` are all of the candidate's."""

    def worst(self, got: Tensor, results: Mapping[str, Tensor]) -> float:
        """The largest error, in limits."""

    def typical(self, got: Tensor, results: Mapping[str, Tensor]) -> float:
        """The mean error, in limits."""

    def described(self) -> dict[str, Any]:
        """What is expected, and how closely, for people."""

    def signal(self) -> bool:
        """Whether this could tell a wrong result from a right one."""
