"""Interleaved rotations that go wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Tensor, interleaved

OP = "interleaved_rope"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="pairs are rotated two at a time: the last of an odd number is not",
)
def rotates_pairs_two_at_a_time(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    done = torch.arange(cos.shape[-1]) < cos.shape[-1] // 2 * 2
    return interleaved(x, torch.where(done, cos, 1.0), torch.where(done, sin, 0.0))
