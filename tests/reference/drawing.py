"""Seeded inputs, and comparisons in float64."""

import torch
from torch import Tensor

CLOSE = 1e-12
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def assert_near(got: Tensor, want: Tensor, close: float = CLOSE) -> None:
    torch.testing.assert_close(got, want, rtol=close, atol=close, equal_nan=False)
