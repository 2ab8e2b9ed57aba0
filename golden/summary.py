"""A tensor in about 1.5 KB: enough to see that another differs, by how much, and where.

Letters: N elements, S numbers of a sketch, T rows, k values kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.reference.synthetic import mixed

__all__ = ["SPREAD", "Summary", "summarize"]

S = 256
SPREAD = math.sqrt(1 / (2 * S))  # relative standard deviation of a difference that sketches tell
VALUES = 16  # of the largest size that are kept
BLOCKS = 64  # of the last axis, a norm for each
SALT = 0x5EED


@dataclass(frozen=True)
class Summary:
    """What is kept of a tensor of floats."""

    shape: tuple[int, ...]
    sketch: Tensor  # (S,) float32, linear in the tensor
    rows: Tensor  # (T,) float32: norms of slices: one a token, or a head of a state
    blocks: Tensor  # (BLOCKS,) float32, or fewer: norms of blocks of the last axis
    places: Tensor  # (k,) int32: flat indices of the values of largest size, the first of equals
    values: Tensor  # (k,) float32: those values

    @property
    def norm(self) -> float:
        """Of the whole tensor."""
        return float(self.rows.double().norm())

    def apart(self, other: Summary) -> float:
        """The estimated norm of the difference, over the norm of this one.

        The sketch is linear, and the expectation of its squared norm is that of the tensor
        (count sketch; Charikar, Chen, Farach-Colton 2002). The estimate is off by `SPREAD`, as a
        standard deviation, and by the rounding of sketches to float32.
        """
        far = float((self.sketch.double() - other.sketch.double()).norm())
        return far / self.norm if self.norm else far

    def worst_row(self, other: Summary) -> tuple[int, float]:
        """The row whose norms differ most, and by how much, over the norm here."""
        if not len(self.rows):
            return 0, 0.0
        far = (self.rows.double() - other.rows.double()).abs() / self.rows.double().clamp(min=1e-30)
        row = int(far.argmax())
        return row, float(far[row])


def summarize(x: Tensor) -> Summary:
    """The summary of a tensor of floats, of fewer than 2^31 elements."""
    flat = x.detach().double().flatten()
    width = x.shape[-1] if x.dim() else 1
    lines = flat.view(-1, width) if flat.numel() else flat.view(0, width)
    size = -(-width // BLOCKS) or 1
    blocks = [part.norm() for part in torch.split(lines, size, dim=1)]
    # Of more than three axes the first two say which slice it is: sequence and head.
    count = math.prod(x.shape[: min(2, x.dim() - 1)]) if flat.numel() else 0
    rows = flat.view(count, -1) if count else lines
    order = flat.abs().sort(descending=True, stable=True).indices[:VALUES]
    return Summary(
        shape=tuple(x.shape), sketch=_sketch(flat), rows=rows.norm(dim=1).float(),
        blocks=torch.stack(blocks).float() if blocks else torch.zeros(0),
        places=order.int(), values=flat[order].float(),
    )  # fmt: skip


def _sketch(flat: Tensor) -> Tensor:
    """(S,): four sketches of S / 4 numbers, so that no two elements share all their places.

    Byte i of the hash h of an element's index says where it goes in sketch i, and with which sign:

        s[i, byte & 63] += x / 2 if byte & 64 else -x / 2
    """
    h = mixed(torch.arange(flat.numel(), dtype=torch.int32) + SALT)
    made = torch.zeros(4, S // 4, dtype=torch.float64)
    for i, byte in enumerate(h.view(torch.uint8).view(-1, 4).unbind(1)):
        signed = torch.where((byte & 64).bool(), flat, -flat) / 2
        made[i].index_add_(0, (byte & 63).long(), signed)
    return made.flatten().float()
