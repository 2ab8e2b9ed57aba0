"""Gated activations that go wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import HALF, Tensor, activated, silu

OP = "swiglu"
MOST = torch.finfo(torch.float16).max - 1000


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="gates are read from a table that ends one step before 100",
)
def ends_the_table_of_gates_before_a_hundred(gate_up: Tensor) -> Tensor:
    return activated(gate_up, silu=lambda g: silu(g.clamp(-99.5, 99.5)))


@mutant(
    OP,
    law="authority",
    profile=HALF,
    source="constructed after https://github.com/huggingface/transformers modeling_t5.py, T5Block",
    looks_like="results of float16 are clamped 1,000 below its largest number",
)
def clamps_results_a_thousand_below_the_largest(gate_up: Tensor) -> Tensor:
    return activated(gate_up).clamp(-MOST, MOST)
