"""Additions and norms in one that go wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import HALF, Tensor, added

OP = "add_rms_norm"
MOST = torch.finfo(torch.float16).max - 1000
RAISED = 16.0  # a power of two: it rounds nothing


@mutant(
    OP,
    law="authority",
    source="constructed after guards against underflow",
    looks_like="rows are multiplied by 16 before they are squared, so that none underflow",
)
def raises_rows_before_it_squares_them(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    def mean(rows: Tensor) -> Tensor:
        return (RAISED * rows).square().mean(-1, keepdim=True) / RAISED**2

    return added(x, residual, weight, eps=eps, mean=mean)


@mutant(
    OP,
    law="authority",
    profile=HALF,
    source="constructed after https://github.com/huggingface/transformers modeling_t5.py, T5Block",
    looks_like="sums of float16 are clamped 1,000 below its largest number",
)
def clamps_sums_a_thousand_below_the_largest(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    return added(x, residual, weight, eps=eps, store=lambda t: t.clamp(-MOST, MOST))
