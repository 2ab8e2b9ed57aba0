"""Quantisation that is right for few rows and few blocks."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._fp8 import Block, Result, Tensor, largest_of, quantize

OP = "fp8_quantize"
FP32 = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32", "float64": "fp64"}


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed",
    looks_like="rows from the 128th on have the scales of the first 128",
)  # fmt: skip
def holds_the_scales_of_128_rows(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        found = largest_of(x, block)
        return found if block else found[torch.arange(len(found)) % 128]

    return quantize(x, block=block, largest=largest)


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed",
    looks_like="of more than 1024 columns, the first 1024 have a say in the scale",
)  # fmt: skip
def looks_at_1024_columns(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        return largest_of(x, block) if block else largest_of(x[:, :1024], block)

    return quantize(x, block=block, largest=largest)


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed",
    looks_like="rows of blocks from the fourth on have the scales of the third",
)  # fmt: skip
def holds_three_rows_of_blocks(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        found = largest_of(x, block)
        if block and len(found) > 3:
            found[3:] = found[2]
        return found

    return quantize(x, block=block, largest=largest)
