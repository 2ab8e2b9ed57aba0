"""A small right product of rows with rows, with places where mistakes can be made."""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` in the dtype that sums are in."""
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def logits_of(x: Tensor, weight: Tensor) -> Tensor:
    """Every row of ``x`` with every row of ``weight``."""
    return wide(x) @ wide(weight).mT
