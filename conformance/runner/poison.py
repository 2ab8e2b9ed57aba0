"""Uninitialised memory, filled with what shows: in the candidate's process only."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["FLOATS", "KINDS", "install", "select"]

KINDS = ("nan", "large")  # what fills memory that nobody has written
FLOATS = {"nan": float("nan"), "large": 3.0e4}
_INTEGERS = {"nan": 0x55, "large": 0x7A}
_kind = "nan"
_M_PERTURB = -6  # mallopt: fill every block that malloc hands out
# Not in every C library: where it is not, torch's and numpy's own functions remain.
_mallopt = getattr(ctypes.CDLL(None), "mallopt", None)


def select(kind: str) -> None:
    """Which poison fills memory from now on."""
    global _kind
    _kind = kind
    if _mallopt is not None:
        _mallopt(_M_PERTURB, _INTEGERS[kind])


def install() -> None:
    """Wrap every Python function that hands out uninitialised memory."""
    for owner, name in (
        (torch, "empty"), (torch, "empty_like"), (torch, "empty_strided"),
        (torch, "empty_permuted"), (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ):  # fmt: skip
        setattr(owner, name, _filled(getattr(owner, name)))
    for name in ("empty", "empty_like"):
        setattr(np, name, _filled_array(getattr(np, name)))


def _filled(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        made = make(*args, **kwargs)
        if kwargs.get("out") is not None or made.device.type == "meta":
            return made
        with torch.no_grad():
            if made.is_floating_point() or made.is_complex():
                made.fill_(FLOATS[_kind])
            elif made.dtype != torch.bool:
                made.fill_(_INTEGERS[_kind])
        return made

    return poisoned


def _filled_array(make: Callable[..., Any]) -> Callable[..., Any]:
    def poisoned(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        if made.dtype.kind in "fc":
            made.fill(FLOATS[_kind])
        elif made.dtype.kind in "iu":
            made.fill(_INTEGERS[_kind])
        return made

    return poisoned
