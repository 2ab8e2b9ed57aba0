"""Quantisation with wrong scales, wrong blocks or wrong rounding."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._fp8 import (
    LARGEST,
    Block,
    Result,
    Tensor,
    largest_of,
    nearest,
    quantize,
    spread,
)  # fmt: skip
from lingspec.conformance.mutants._memory import (
    another_way,
    as_if_rows,
    kept_buffer,
    scratch_is_set,
)

OP = "fp8_quantize"
FP32 = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32", "float64": "fp64"}


@mutant(
    OP, law="authority", profile=FP32,
    source="I05 https://github.com/huggingface/kernels-community/pull/680",
    looks_like="a row or block of zeros has scale 0, and its codes are NaN",
)  # fmt: skip
def divides_zeros_by_zero(x: Tensor, *, block: Block = None) -> Result:
    return quantize(x, block=block, scaled=lambda a: a / LARGEST, code=lambda v: v.clamp(
        -LARGEST, LARGEST).to(torch.float8_e4m3fn))  # fmt: skip


@mutant(
    OP, law="authority", profile=FP32,
    source="I05 https://github.com/inclusionAI/linghe/commit/7f89773",
    looks_like="the largest magnitude is taken to be 1e-10 at least",
)  # fmt: skip
def takes_the_largest_to_be_1e_10_at_least(x: Tensor, *, block: Block = None) -> Result:
    def scaled(a: Tensor) -> Tensor:
        return torch.where(a == 0, 1.0, a.clamp(min=1e-10) / LARGEST)

    return quantize(x, block=block, scaled=scaled)


@mutant(
    OP, law="authority", profile=FP32,
    source="I05 https://github.com/inclusionAI/linghe/commit/2239e24",
    looks_like="a scale is four times the smallest normal number at least",
)  # fmt: skip
def takes_scales_to_be_2_to_the_minus_124_at_least(x: Tensor, *, block: Block = None) -> Result:
    def scaled(a: Tensor) -> Tensor:
        return torch.where(a == 0, 1.0, (a / LARGEST).clamp(min=2.0**-124))

    return quantize(x, block=block, scaled=scaled)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="numbers are multiplied by 448 before they are divided: large ones overflow",
)  # fmt: skip
def multiplies_before_it_divides(x: Tensor, *, block: Block = None) -> Result:
    def divide(x: Tensor, scale: Tensor) -> Tensor:
        return x * LARGEST / (scale * LARGEST)

    return quantize(x, block=block, divide=divide)


@mutant(
    OP, law="authority", profile=FP32,
    source="I08 https://github.com/vllm-project/vllm/pull/39641",
    looks_like="the largest magnitude is taken over the next row or block too",
)  # fmt: skip
def takes_the_largest_over_the_next_group_too(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        a = largest_of(x, block)
        axis = 0 if block is None else 1
        if a.shape[axis] < 2:
            return a
        return torch.maximum(a, a.roll(-1, axis))

    return quantize(x, block=block, largest=largest)


@mutant(
    OP, law="authority", profile=FP32,
    source="I01 https://github.com/pytorch/FBGEMM/issues/6159",
    looks_like="the last, partial block of columns has the scale of the one before it",
)  # fmt: skip
def gives_the_last_partial_block_the_scale_before(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        a = largest_of(x, block)
        if block is not None and x.shape[1] % block[1] and a.shape[1] > 1:
            a[:, -1] = a[:, -2]
        return a

    return quantize(x, block=block, largest=largest)


@mutant(
    OP, law="untouched", profile=FP32,
    source="I13 https://github.com/sgl-project/sglang/pull/14102",
    looks_like="scales of rows behind the last whole 16 are never written",
)  # fmt: skip
def leaves_the_last_scales_unwritten(x: Tensor, *, block: Block = None) -> Result:
    q, scale = quantize(x, block=block)
    made, rows = torch.empty_like(scale), len(scale) // 16 * 16 or len(scale)
    made[:rows] = scale[:rows]
    return q, made


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="the largest number is taken, not the largest magnitude",
)  # fmt: skip
def takes_the_largest_number(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        return largest_of(x.clamp(min=0.0), block)

    return quantize(x, block=block, largest=largest)


@mutant(
    OP, law="authority", profile=FP32,
    source="I07 https://github.com/NVIDIA/Model-Optimizer/issues/1633",
    looks_like="numbers at the limit are encoded as NaN",
)  # fmt: skip
def encodes_the_largest_as_nan(x: Tensor, *, block: Block = None) -> Result:
    def code(v: Tensor) -> Tensor:
        q = nearest(v)
        nan = torch.full_like(q.view(torch.uint8), 0x7F).view(torch.float8_e4m3fn)
        return torch.where(v.abs() >= LARGEST, nan, q)

    return quantize(x, block=block, code=code)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="scales are those of another format, whose largest number is 240",
)  # fmt: skip
def scales_to_the_largest_of_another_format(x: Tensor, *, block: Block = None) -> Result:
    return quantize(x, block=block, scaled=lambda a: torch.where(a == 0, 1.0, a / 240.0))


@mutant(
    OP, law="authority", profile=FP32, source="constructed after scales of MX formats",
    looks_like="scales are rounded up to powers of two",
)  # fmt: skip
def rounds_scales_up_to_powers_of_two(x: Tensor, *, block: Block = None) -> Result:
    def scaled(a: Tensor) -> Tensor:
        mantissa, power = torch.frexp(torch.where(a == 0, 1.0, a / LARGEST))
        return torch.ldexp(torch.ones_like(a), power - (mantissa == 0.5).int())

    return quantize(x, block=block, scaled=scaled)


@mutant(
    OP, law="authority", profile={"float32": "fp32"}, source="constructed after I05",
    looks_like="the largest magnitude is found in bfloat16",
)  # fmt: skip
def finds_the_largest_in_bfloat16(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        return largest_of(x.to(torch.bfloat16).float(), block)

    return quantize(x, block=block, largest=largest)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="codes are cut off instead of rounded",
)  # fmt: skip
def cuts_codes_off(x: Tensor, *, block: Block = None) -> Result:
    def code(v: Tensor) -> Tensor:
        bits = (v.contiguous().view(torch.int32) & ~0xFFFFF).view(torch.float32)
        return nearest(bits)

    return quantize(x, block=block, code=code)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="numbers below the smallest normal code are 0",
)  # fmt: skip
def flushes_small_codes_to_zero(x: Tensor, *, block: Block = None) -> Result:
    return quantize(x, block=block, code=lambda v: nearest(torch.where(v.abs() < 2.0**-6, 0.0, v)))


@mutant(
    OP, law="exact", profile={"float32": "fp32"}, source="constructed",
    looks_like="ties go away from zero",
)  # fmt: skip
def rounds_ties_away_from_zero(x: Tensor, *, block: Block = None) -> Result:
    def code(v: Tensor) -> Tensor:
        size = v.abs().clamp(max=LARGEST)
        power = torch.frexp(size).exponent.clamp(min=-5) - 4  # of the last of four bits
        made = torch.ldexp((torch.ldexp(size, -power) + 0.5).floor(), power)
        return nearest(torch.where(v < 0, -made, made))

    return quantize(x, block=block, code=code)


@mutant(
    OP, law="authority", profile=FP32,
    source="I10 https://github.com/unslothai/unsloth/pull/8953",
    looks_like="a square grid of scales is transposed",
)  # fmt: skip
def transposes_square_grids_of_scales(x: Tensor, *, block: Block = None) -> Result:
    q, scale = quantize(x, block=block)
    square = block is not None and scale.shape[0] == scale.shape[1]
    return q, scale.mT.contiguous() if square else scale


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="a matrix without columns has scales of 0",
)  # fmt: skip
def gives_rows_of_nothing_a_scale_of_zero(x: Tensor, *, block: Block = None) -> Result:
    q, scale = quantize(x, block=block)
    return q, scale if x.shape[1] else torch.zeros_like(scale)


@mutant(
    OP, law="strides", profile=FP32, source="constructed after H05",
    looks_like="the columns are taken to lie side by side",
)  # fmt: skip
def takes_columns_to_lie_side_by_side(x: Tensor, *, block: Block = None) -> Result:
    return quantize(as_if_rows(x), block=block)


_kept: dict[Any, Tensor] = {}


@mutant(
    OP, law="untouched", profile=FP32,
    source="constructed after the static outputs of captured graphs",
    looks_like="scales lie in a buffer that the next call writes",
)  # fmt: skip
def returns_scales_in_the_same_buffer(x: Tensor, *, block: Block = None) -> Result:
    q, scale = quantize(x, block=block)
    return q, kept_buffer(_kept, scale)


def an_ulp_larger(x: Tensor, block: Block) -> Result:
    """By a reciprocal that is an ulp off."""
    scale = quantize(x, block=block)[1]
    scale = torch.where(scale == 1, scale, torch.nextafter(scale, 2 * scale))
    return nearest(x.float() / spread(scale, x.shape, block)), scale


@mutant(
    OP, law="determinism", profile=FP32,
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="how a scale is rounded depends on memory that nobody has written",
)  # fmt: skip
def rounds_scales_as_memory_decides(x: Tensor, *, block: Block = None) -> Result:
    return an_ulp_larger(x, block) if scratch_is_set() else quantize(x, block=block)


_seen: set[Any] = set()


@mutant(
    OP, law="shapes", profile={"float32": "fp32"},
    source="constructed after autotuners that count calls",
    looks_like="how a scale is rounded depends on which shapes were seen before",
)  # fmt: skip
def rounds_scales_as_earlier_shapes_decide(x: Tensor, *, block: Block = None) -> Result:
    other = another_way(_seen, (x.shape, block))
    exact = bool((torch.frexp(quantize(x, block=block)[1]).mantissa == 0.5).all())
    return an_ulp_larger(x, block) if other and not exact else quantize(x, block=block)


@mutant(
    OP, law="invariance", profile=FP32, source="constructed after two-level scales",
    looks_like="scales are kept in 68 bits below the largest of the matrix",
)  # fmt: skip
def keeps_scales_in_one_fixed_point_format(x: Tensor, *, block: Block = None) -> Result:
    def scaled(a: Tensor) -> Tensor:
        step = a.double().max() / LARGEST * 2.0**-68 if a.numel() else 1.0
        kept = (a.double() / LARGEST / step).ceil() * step
        return torch.where(a == 0, 1.0, kept.float())

    return quantize(x, block=block, scaled=scaled)


@mutant(
    OP, law="identities", profile=FP32, source="constructed",
    looks_like="there are three blocks across at most; a fourth has the scale of the first",
)  # fmt: skip
def counts_no_more_than_three_blocks_across(x: Tensor, *, block: Block = None) -> Result:
    def largest(x: Tensor, block: Block) -> Tensor:
        a = largest_of(x, block)
        a[:, 3:] = a[:, :1]
        return a

    return quantize(x, block=block, largest=largest)
