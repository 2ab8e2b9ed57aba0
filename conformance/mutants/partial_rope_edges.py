"""Partial rotations that go wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Tensor, partial

OP = "partial_rope"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="a head with a single pair is not rotated: two pairs are the least of a program",
)
def starts_no_program_for_a_single_pair(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x.clone() if cos.shape[-1] == 1 else partial(x, cos, sin)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="all dims are scaled by K**-0.5, and those that pass are scaled back",
)
def scales_dims_that_pass_and_scales_them_back(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y, R = partial(x, cos, sin), 2 * cos.shape[-1]
    scale = torch.tensor(x.shape[-1] ** -0.5, dtype=x.dtype)
    return torch.cat([y[..., :R], x[..., R:] * scale / scale], -1)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="for 8 heads or more the table of the first of a batch serves all",
)
def reads_one_table_for_many_heads(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    if x.shape[2] >= 8 and len(x):
        cos, sin = (part[:1].expand_as(part) for part in (cos, sin))
    return partial(x, cos, sin)
