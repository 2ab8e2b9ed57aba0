"""The same tensor objects again, with other contents: as the parameters and buffers of an engine.

An engine writes new weights, page tables and lengths into tensors that it keeps. Whoever remembers
something by the object (an attribute, a weak reference, ``is``) must look at its version too, which
counts how often it was written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import torch
from torch import Tensor

from lingspec.conformance.runner.arena import Slot, view

__all__ = ["Kept"]


class Kept:
    """Views of one memory, each made once."""

    def __init__(self) -> None:
        self.on_device = torch.empty(0, dtype=torch.uint8)
        self.found: dict[tuple[object, ...], Tensor] = {}

    def memory(self, given: Tensor, device: str) -> Tensor:
        """The bytes of a call; those of a device stay where the last call's were, if they can."""
        if device == "cpu":
            return given
        if self.on_device.numel() < given.numel():
            self.on_device = torch.empty(given.numel(), dtype=torch.uint8, device=device)
            self.found = {}
        return self.on_device[: given.numel()].copy_(given)

    def tensors(
        self, whole: Tensor, slots: Sequence[Slot], trained: frozenset[str]
    ) -> dict[str, Tensor]:
        """Every input; the object of the last call where it lies there, as something written to."""
        made, found = {}, dict[tuple[object, ...], Tensor]()
        for slot in slots:
            key = (*astuple(slot), slot.name in trained)
            x = self.found.get(key)
            if x is None:
                # `data`: a version of its own, as tensors have that are no views
                x = view(whole, slot).data.requires_grad_(slot.name in trained)
            else:
                torch.autograd.graph.increment_version(x)
            made[slot.name] = found[key] = x
        self.found = found  # of the last call alone: what else there was may be another's now
        return made

    def reshaped(self) -> str | None:
        """What the call did to an input as an object: it must be the tensor that it was."""
        for key, x in self.found.items():
            name, dtype, shape, strides = key[:4]
            now = (str(x.dtype).removeprefix("torch."), tuple(x.shape), x.stride())
            if now != (dtype, shape, strides) and x.numel():
                is_now = f"{now[0]}, {now[1]}, strides {now[2]}"
                was = f"{dtype}, {shape}, strides {strides}"
                return f"the call made {name} another tensor: {is_now}, but it was {was}"
        return None
