"""Inputs of one call in shared memory, each between guard bands.

The judge writes them, the candidate sees views, and the judge compares every byte afterwards. The
same memory serves the next call with other contents.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["GUARD", "Arena", "Slot", "as_bytes", "identical", "laid_as", "once", "view"]

GUARD = 4096  # bytes on each side of every input, filled with 0xFF: NaN in every float format
_ALIGN = 256


@dataclass(frozen=True)
class Slot:
    """Where one input lies: a region of bytes, and the view of it that the candidate gets."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    start: int  # byte of the region in the arena
    elements: int  # of the region
    offset: int  # element of the region where the view begins

    def as_json(self) -> dict[str, Any]:
        """For the protocol."""
        return dict(vars(self))


class Arena:
    """A shared memory file that grows; its address changes only when it grows."""

    def __init__(self) -> None:
        self.fd = -1
        self.map: mmap.mmap | None = None
        self.size = 0
        self.slots: dict[str, Slot] = {}
        self.used = 0
        self.sealed: Tensor | None = None  # every byte, as it was when the last call had returned
        self.sparse = False  # one input spans gigabytes, of which only its elements are touched

    def place(self, tensors: Mapping[str, Tensor], far: Mapping[str, int] | None = None) -> bool:
        """Lay out ``tensors`` with their own strides; True if the memory is a new one.

        Those in ``far`` are spread along an axis, so that its last member lies beyond 2^31.
        """
        self.sealed = None
        far = far or {}
        self.slots, at, shrink = {}, GUARD, self.sparse and not far
        self.sparse = bool(far)
        for name, x in tensors.items():
            strides = _far_strides(x, far[name]) if name in far else x.stride()
            spread = 1 + sum((n - 1) * abs(s) for n, s in zip(x.shape, strides, strict=True))
            elements = 0 if x.numel() == 0 else spread
            at = -(-at // _ALIGN) * _ALIGN + _begins(x)
            dtype = str(x.dtype).removeprefix("torch.")
            self.slots[name] = Slot(name, dtype, tuple(x.shape), tuple(strides), at, elements, 0)
            at += elements * x.element_size() + GUARD
        grown = at > self.size or shrink
        if shrink:
            self.size = 0
        if grown:
            self._grow(at)
        self.used = at
        return grown

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Poison every byte (of a sparse arena none), then write the contents."""
        whole = self._bytes()
        if not self.sparse:
            whole[: self.used] = 0xFF
        for name, x in tensors.items():
            once(view(whole, self.slots[name])).copy_(once(x))

    def snapshot(self) -> Tensor:
        """A private copy of every byte; of a sparse arena, of every element."""
        if self.sparse:
            whole = self._bytes()
            parts = [view(whole, s).contiguous().reshape(-1) for s in self.slots.values()]
            return torch.cat([p.view(torch.uint8) for p in parts])
        return self._bytes()[: self.used].clone()

    def read(self, name: str) -> Tensor:
        """A copy of an input as it is now."""
        return view(self._bytes(), self.slots[name]).clone()

    def changed(self, before: Tensor, mutable: frozenset[str]) -> str | None:
        """Which input, or what beside it, is no longer what it was; None if all is."""
        if self.sparse:
            return self._changed_sparse(before, mutable)
        now = self._bytes()[: self.used]
        if equal(now, before):
            return None
        allowed = before.clone()
        for name in mutable & self.slots.keys():
            view(allowed, self.slots[name]).copy_(view(now, self.slots[name]))
        return None if equal(now, allowed) else self._name_of(int((now != allowed).nonzero()[0]))

    def seal(self) -> None:
        """Nobody writes here until the next call is laid out."""
        self.sealed = None if self.sparse else self.snapshot()

    def disturbed(self) -> str | None:
        """Where somebody wrote since `seal`; told once."""
        place = None if self.sealed is None else self.changed(self.sealed, frozenset())
        if place is not None:
            self.sealed = None
        return place

    def _changed_sparse(self, before: Tensor, mutable: frozenset[str]) -> str | None:
        now, at = self.snapshot(), 0
        for slot in self.slots.values():
            size = math.prod(slot.shape) * getattr(torch, slot.dtype).itemsize
            same = equal(now[at : at + size], before[at : at + size])
            if not same and slot.name not in mutable:
                return slot.name
            at += size
        return None

    def close(self) -> None:
        """Give the memory back."""
        self.slots = {}
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _name_of(self, byte: int) -> str:
        for slot in self.slots.values():
            item = getattr(torch, slot.dtype).itemsize
            if slot.start <= byte < slot.start + slot.elements * item:
                owned = torch.zeros(slot.elements, dtype=torch.bool)
                owned.as_strided(slot.shape, slot.strides, slot.offset).fill_(True)
                inside = bool(owned[(byte - slot.start) // item])
                return f"{slot.name}" if inside else f"memory between the elements of {slot.name}"
        places = []
        for slot in self.slots.values():
            end = slot.start + slot.elements * getattr(torch, slot.dtype).itemsize
            before, after = slot.start - byte, byte - end + 1
            places.append(
                (before, "before", slot.name) if before > 0 else (after, "after", slot.name)
            )
        if not places:
            return "memory that holds no input"
        distance, side, name = min(places)
        return f"memory outside every input, byte {distance} {side} {name}"

    def _grow(self, size: int) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.size = max(2 * self.size, size, 1 << 20) if size < 1 << 28 else size
        self.fd = os.memfd_create("inputs")
        os.ftruncate(self.fd, self.size)
        self.map = mmap.mmap(self.fd, self.size)

    def _bytes(self) -> Tensor:
        assert self.map is not None
        return torch.frombuffer(self.map, dtype=torch.uint8)


def _begins(x: Tensor) -> int:
    """Bytes behind an address that every kernel likes: what is a view may begin anywhere."""
    return int(x.storage_offset()) * x.element_size() % _ALIGN


def _far_strides(x: Tensor, axis: int) -> tuple[int, ...]:
    """Dense strides, but that of ``axis``, whose last member lies beyond 2^31 elements."""
    strides = list(x.contiguous().stride())
    if x.shape[axis] > 1:
        strides[axis] = -(-(2**31 + 64) // (x.shape[axis] - 1))
    return tuple(strides)


def once(x: Tensor) -> Tensor:
    """``x`` with every expanded axis cut to one member: no element twice."""
    for axis, stride in enumerate(x.stride()):
        if stride == 0 and x.shape[axis] > 1:
            x = x.narrow(axis, 0, 1)
    return x


def laid_as(x: Tensor, like: Tensor) -> Tensor:
    """``x`` with strides and beginning of ``like``, if it is no larger along any axis; else itself.

    Where ``like`` is expanded, all members of ``x`` must be equal.
    """
    fits = x.dim() == like.dim() and all(n <= m for n, m in zip(x.shape, like.shape, strict=True))
    same = x.stride() == like.stride() and _begins(x) == _begins(like)
    if not fits or same or not x.numel():
        return x
    shared = [d for d, (n, stride) in enumerate(zip(like.shape, like.stride(), strict=True))
              if stride == 0 and n > 1]  # fmt: skip
    kept = x
    for axis in shared:
        kept = kept.narrow(axis, 0, 1)
    if shared and not identical(kept.expand(x.shape), x):
        return x
    first, item = _begins(like) // like.element_size(), x.element_size()
    room = torch.empty_strided(kept.shape, like.stride(), dtype=x.dtype).untyped_storage().nbytes()
    whole = torch.empty(first + room // item, dtype=x.dtype, device=x.device)
    whole.as_strided(kept.shape, like.stride(), first).copy_(kept)
    return whole.as_strided(x.shape, like.stride(), first)


def as_bytes(x: Tensor) -> Tensor:
    """The bytes of ``x``, element after element; of a single one too, whatever its strides are."""
    flat = x.detach().contiguous().reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)


def identical(x: Tensor, y: Tensor) -> bool:
    """The same shape and bits, in whatever memory: NaN is itself, and 8-bit floats compare."""
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    return equal(as_bytes(x), as_bytes(y))


def equal(x: Tensor, y: Tensor) -> bool:
    """The same bytes. numpy compares them many at a time, which `torch.equal` does not."""
    return np.array_equal(x.numpy(), y.numpy())


def view(whole: Tensor, slot: Slot) -> Tensor:
    """The tensor that ``slot`` describes, in the bytes of ``whole``."""
    dtype: torch.dtype = getattr(torch, slot.dtype)
    if slot.elements == 0:
        return torch.empty(slot.shape, dtype=dtype, device=whole.device)
    region = whole[slot.start : slot.start + slot.elements * dtype.itemsize].view(dtype)
    return region.as_strided(slot.shape, slot.strides, region.storage_offset() + slot.offset)
