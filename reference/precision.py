"""In which dtype the reference computes."""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import require

__all__ = ["FLOATS", "check_float", "same", "work", "work_dtype"]

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def work_dtype(x: Tensor) -> torch.dtype:
    """float64 where ``x`` is float64, else float32: what is marked float32 in a signature."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def work(x: Tensor) -> Tensor:
    """``x`` in the dtype that the reference computes in."""
    return x.to(work_dtype(x))


def check_float(x: Tensor, name: str) -> None:
    """Refuse what is not a float tensor of the four dtypes."""
    require(x.dtype in FLOATS, name, "dtype", x.dtype, "float64, float32, bfloat16 or float16")


def same(x: Tensor, name: str, like: Tensor, other: str) -> None:
    """Refuse another shape or dtype than that of ``like``, which is called ``other``."""
    want = tuple(like.shape)
    require(tuple(x.shape) == want, name, "shape", tuple(x.shape), f"{want}, as {other}")
    require(x.dtype == like.dtype, name, "dtype", x.dtype, f"{like.dtype}, as {other}")
