"""Right quantisation in several forms."""

from __future__ import annotations

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._fp8 import LARGEST, Block, Result, Tensor, quantize

OP = "fp8_quantize"
ALL = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@honest(OP, profile=ALL, differs="two quotients")
def divides_by_the_scale_twice(x: Tensor, *, block: Block = None) -> Result:
    return quantize(x, block=block)


@honest(OP, profile=ALL, differs="products with reciprocals")
def multiplies_by_reciprocals(x: Tensor, *, block: Block = None) -> Result:
    def scaled(a: Tensor) -> Tensor:
        return torch.where(a == 0, 1.0, a * torch.tensor(1 / LARGEST))

    def divide(x: Tensor, scale: Tensor) -> Tensor:
        return x * scale.reciprocal()

    return quantize(x, block=block, scaled=scaled, divide=divide)


@honest(OP, profile=ALL, differs="quotients in float64")
def divides_in_float64(x: Tensor, *, block: Block = None) -> Result:
    def scaled(a: Tensor) -> Tensor:
        return torch.where(a == 0, 1.0, (a.double() / LARGEST).float())

    def divide(x: Tensor, scale: Tensor) -> Tensor:
        return x.double() / scale.double()

    return quantize(x, block=block, scaled=scaled, divide=divide)


@honest(OP, profile=ALL, differs="codes made of bits, by adding half a unit to the number")
def makes_codes_of_bits(x: Tensor, *, block: Block = None) -> Result:
    def code(v: Tensor) -> Tensor:
        size = v.abs().clamp(max=LARGEST)
        power = torch.frexp(size).exponent.clamp(min=-5) - 4  # of the last of four bits
        whole = torch.ldexp(size, -power).round()  # ties to even
        made = torch.ldexp(whole, power) * torch.where(v < 0, -1.0, 1.0)
        return made.to(torch.float8_e4m3fn)

    return quantize(x, block=block, code=code)
