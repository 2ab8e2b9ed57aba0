"""Inputs of one call in shared memory, each between guard bands.

The judge writes them, the candidate sees views, and the judge compares every byte afterwards. The
same memory serves the next call with other contents.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["GUARD", "Arena", "Slot", "view"]

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
        return asdict(self)


class Arena:
    """A shared memory file that grows; its address changes only when it grows."""

    def __init__(self) -> None:
        self.fd = -1
        self.map: mmap.mmap | None = None
        self.size = 0
        self.slots: dict[str, Slot] = {}

    def place(self, tensors: Mapping[str, Tensor]) -> bool:
        """Lay out ``tensors`` with their own strides; True if the memory is a new one."""
        self.slots, at = {}, GUARD
        for name, x in tensors.items():
            spread = 1 + sum((n - 1) * abs(s) for n, s in zip(x.shape, x.stride(), strict=True))
            elements = 0 if x.numel() == 0 else spread
            at = -(-at // _ALIGN) * _ALIGN
            dtype = str(x.dtype).removeprefix("torch.")
            self.slots[name] = Slot(name, dtype, tuple(x.shape), x.stride(), at, elements, 0)
            at += elements * x.element_size() + GUARD
        grown = at > self.size
        if grown:
            self._grow(at)
        self.used = at
        return grown

    def fill(self, tensors: Mapping[str, Tensor], *, dense: bool = True) -> None:
        """Write the contents; ``dense`` first poisons every byte that no element covers."""
        whole = self._bytes()
        if dense:
            whole[: self.used] = 0xFF
        for name, x in tensors.items():
            view(whole, self.slots[name]).copy_(x)

    def snapshot(self) -> Tensor:
        """A private copy of every byte."""
        return self._bytes()[: self.used].clone()

    def read(self, name: str) -> Tensor:
        """A copy of an input as it is now."""
        return view(self._bytes(), self.slots[name]).clone()

    def changed(self, before: Tensor, mutable: frozenset[str]) -> str | None:
        """Which input, or what beside it, is no longer what it was; None if all is."""
        now = self._bytes()[: self.used]
        if torch.equal(now, before):
            return None
        allowed = before.clone()
        for name in mutable:
            view(allowed, self.slots[name]).copy_(view(now, self.slots[name]))
        differ = (now != allowed).nonzero()
        return None if differ.numel() == 0 else self._name_of(int(differ[0]))

    def close(self) -> None:
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
        near = min(self.slots.values(), key=lambda s: abs(s.start - byte))
        return f"memory outside every input, {abs(byte - near.start)} bytes from {near.name}"

    def _grow(self, size: int) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.size = max(2 * self.size, size, 1 << 20) if size < 1 << 28 else size
        self.fd = os.memfd_create("lingspec-inputs")
        os.ftruncate(self.fd, self.size)
        self.map = mmap.mmap(self.fd, self.size)

    def _bytes(self) -> Tensor:
        assert self.map is not None
        return torch.frombuffer(self.map, dtype=torch.uint8)


def view(whole: Tensor, slot: Slot) -> Tensor:
    """The tensor that ``slot`` describes, in the bytes of ``whole``."""
    dtype: torch.dtype = getattr(torch, slot.dtype)
    if slot.elements == 0:
        return torch.empty(slot.shape, dtype=dtype, device=whole.device)
    region = whole[slot.start : slot.start + slot.elements * dtype.itemsize].view(dtype)
    return region.as_strided(slot.shape, slot.strides, region.storage_offset() + slot.offset)
