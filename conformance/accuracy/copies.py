"""Results that are copied: their bits are known, NaN and its payload included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.accuracy.verdict import Problem, short

__all__ = ["Copied"]

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Copied:
    """A tensor of which every bit is compared."""

    name: str
    want: Tensor  # in its own dtype
    coherent: bool = True

    @property
    def value(self) -> Tensor:
        """The same in float64."""
        return self.want.double()

    def __getitem__(self, index: Any) -> Copied:
        """The bits of a part."""
        return replace(self, want=self.want[index])

    def finite(self) -> bool:
        """Bits can always be judged."""
        return True

    def problem(
        self, got: Tensor, dtype: torch.dtype, _variants: Sequence[Tensor] = (),
        _results: Mapping[str, Tensor] | None = None,
    ) -> Problem | None:  # fmt: skip
        """The first element with other bits."""
        if got.dtype != dtype:
            return Problem(
                "dtype", f"{self.name} has dtype {short(got.dtype)}, but must have {short(dtype)}"
            )
        if got.shape != self.want.shape:
            shape, right = tuple(got.shape), tuple(self.want.shape)
            return Problem("shape", f"{self.name} has shape {shape}, but must have {right}")
        differ = (_bits(got) != _bits(self.want)).nonzero()
        if not len(differ):
            return None
        at = tuple(int(i) for i in differ[0])
        place = ", ".join(map(str, at))
        count, digits = got.numel(), 2 * got.element_size()
        seen, want = (int(_bits(x)[at]) % (1 << 4 * digits) for x in (got, self.want))
        return Problem(
            "bits", f"{self.name} has other bits",
            f"{self.name}[{place}] and {len(differ) - 1} more of {count}",
            got_want=f"[{place}] {seen:#0{digits + 2}x} / {want:#0{digits + 2}x}, every bit",
        )  # fmt: skip

    def worst(self, got: Tensor, results: Mapping[str, Tensor] | None = None) -> float:
        """0 for equal bits, else infinite."""
        return torch.inf if self.problem(got, got.dtype, (), results) is not None else 0.0

    typical = worst

    def signal(self) -> bool:
        """Any bit tells."""
        return self.want.numel() > 0

    def described(self) -> dict[str, Any]:
        """Its shape."""
        return {"shape": list(self.want.shape), "from": "every bit"}


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().view(_BITS[x.element_size()])
