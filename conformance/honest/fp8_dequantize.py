"""Right dequantisation in several forms."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._fp8 import Block, Tensor, dequantize

OP = "fp8_dequantize"
ALL = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@honest(OP, profile=ALL, differs="one product for each element")
def multiplies_every_element(*call: Any, **options: Any) -> Tensor:
    return dequantize(*call, **options)


@honest(OP, profile=ALL, differs="a product of float64, rounded once")
def multiplies_in_float64(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    return dequantize(q, scale, block=block, dtype=torch.float64).to(dtype)


@honest(OP, profile=ALL, differs="numbers out of a table of 256, row after row")
def looks_numbers_up_in_a_table(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    table = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn)

    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        return table.to(wide)[q.view(torch.uint8).long()]

    return dequantize(q, scale, block=block, dtype=dtype, decode=decode)


@honest(OP, profile=ALL, differs="numbers made of sign, exponent and three bits")
def makes_numbers_of_bits(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        byte = q.view(torch.uint8).int()
        power, part = (byte >> 3) & 15, (byte & 7).to(wide)
        size = torch.where(
            power == 0, torch.ldexp(part, torch.tensor(-9)), torch.ldexp(part + 8, power - 10)
        )
        number = torch.where(byte & 0x7F == 0x7F, torch.nan, size)
        return torch.where(byte >= 0x80, -number, number).to(wide)

    return dequantize(q, scale, block=block, dtype=dtype, decode=decode)
