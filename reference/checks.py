"""Refusals: an argument, what it was, and what it must be."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["ContractError", "check_cu_seqlens", "on_one_device", "require"]

P = ParamSpec("P")
R = TypeVar("R")


class ContractError(ValueError):
    """The caller broke an op's contract: a shape, a dtype or a value that it does not allow."""


def require(ok: bool, name: str, what: str, got: object, expected: str) -> None:
    """Raise unless ``ok``, naming the argument, what it was and what it must be.

    Raises:
        ContractError: ``ok`` is false.
    """
    if not ok:
        raise ContractError(f"{name} has {what} {got}, but must have {expected}")


def on_one_device(op: Callable[P, R]) -> Callable[P, R]:
    """``op``, which refuses tensors on different devices by the name of the argument."""
    signature = inspect.signature(op)

    @functools.wraps(op)
    def refusing(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        tensors = {name: x for name, x in given.items() if isinstance(x, Tensor)}
        first = next(iter(tensors), None)
        for name, x in tensors.items():
            want = tensors[str(first)].device
            require(x.device == want, name, "device", x.device, f"{want}, as {first}")
        return op(*args, **kwargs)

    return refusing


def check_cu_seqlens(cu_seqlens: Tensor, T: int, name: str) -> list[int]:
    """Where the packed sequences begin and end, if they are the parts of T tokens.

    Raises:
        ContractError: they are not.
    """
    ok = cu_seqlens.dtype in (torch.int32, torch.int64)
    require(ok, name, "dtype", cu_seqlens.dtype, "int32 or int64")
    ok = cu_seqlens.dim() == 1 and cu_seqlens.shape[0] >= 1
    require(ok, name, "shape", tuple(cu_seqlens.shape), "(N + 1,)")
    ends: list[int] = cu_seqlens.tolist()
    ok = ends[0] == 0 and ends[-1] == T and ends == sorted(ends)
    require(ok, name, "values", ends, f"0 first, {T} last, never falling")
    return ends
