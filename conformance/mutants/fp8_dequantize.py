"""Dequantisation with wrong scales, wrong blocks or wrong numbers."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._fp8 import Block, Tensor, dequantize, grid
from lingspec.conformance.mutants._memory import (
    another_way,
    as_if_rows,
    kept_buffer,
    scratch_is_set,
)

OP = "fp8_dequantize"
FP32 = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32", "float64": "fp64"}


@mutant(
    OP, law="authority", profile=FP32,
    source="I01 https://github.com/pytorch/FBGEMM/issues/6159",
    looks_like="the number of blocks is rounded down: the last, partial one has the scale before",
)  # fmt: skip
def rounds_the_number_of_blocks_down(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    if block is not None and q.shape[1] % block[1] and scale.shape[1] > 1:
        scale = torch.cat([scale[:, :-1], scale[:, -2:-1]], dim=1)
    return dequantize(q, scale, block=block, dtype=dtype)


@mutant(
    OP, law="authority", profile=FP32,
    source="I04 https://github.com/ml-explore/mlx/issues/3762",
    looks_like="for fewer than 8 columns the codes are read as integers",
)  # fmt: skip
def reads_bytes_where_columns_are_few(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        return q.view(torch.uint8).to(wide) if q.shape[1] < 8 else q.to(wide)

    return dequantize(q, scale, block=block, dtype=dtype, decode=decode)


@mutant(
    OP, law="authority", profile=FP32,
    source="I10 https://github.com/vllm-project/vllm/issues/44110",
    looks_like="a square grid of scales is transposed",
)  # fmt: skip
def transposes_a_square_grid_of_scales(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    square = block is not None and scale.shape[0] == scale.shape[1]
    return dequantize(q, scale.mT if square else scale, block=block, dtype=dtype)


@mutant(
    OP, law="authority", profile=FP32,
    source="I07 https://github.com/flashinfer-ai/flashinfer/issues/3057",
    looks_like="NaN is decoded as 480",
)  # fmt: skip
def decodes_nan_as_a_number(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        sign = torch.where(q.view(torch.uint8) >= 0x80, -480.0, 480.0).to(wide)
        return torch.where(q.isnan(), sign, q.to(wide))

    return dequantize(q, scale, block=block, dtype=dtype, decode=decode)


@mutant(
    OP, law="authority", profile=FP32, source="constructed after I07",
    looks_like="the largest number is decoded as NaN",
)  # fmt: skip
def decodes_the_largest_as_nan(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        x = q.to(wide)
        return x.masked_fill(x.abs() == 448.0, torch.nan)

    return dequantize(q, scale, block=block, dtype=dtype, decode=decode)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="codes below the smallest normal one are 0",
)  # fmt: skip
def decodes_subnormal_codes_as_zero(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    def decode(q: Tensor, wide: torch.dtype) -> Tensor:
        x = q.to(wide)
        return torch.where(x.abs() < 2.0**-6, 0.0, x)

    return dequantize(q, scale, block=block, dtype=dtype, decode=decode)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="codes are read with another bias: numbers are half as large",
)  # fmt: skip
def decodes_another_format(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    return dequantize(q, scale / 2, block=block, dtype=dtype)


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed after I12 https://github.com/deepseek-ai/DeepGEMM/pull/403",
    looks_like="the grid of scales is read along its columns",
)  # fmt: skip
def reads_the_grid_along_its_columns(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    R, S = grid(q.shape, block)
    return dequantize(q, scale.reshape(S, R).mT, block=block, dtype=dtype)


@mutant(
    OP, law="authority", profile={"float32": "fp32"}, source="constructed",
    looks_like="scales are rounded to bfloat16",
)  # fmt: skip
def keeps_scales_in_bfloat16(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    return dequantize(q, scale.to(torch.bfloat16).float(), block=block, dtype=dtype)


@mutant(
    OP, law="authority", profile=FP32, source="constructed",
    looks_like="the scale is divided by, not multiplied by",
)  # fmt: skip
def divides_by_the_scale(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    return dequantize(q, 1 / scale, block=block, dtype=dtype)


@mutant(
    OP, law="untouched", profile=FP32,
    source="constructed after H04 https://github.com/linkedin/Liger-Kernel/commit/0f66f7ec",
    looks_like="columns behind the last whole 16 are never written",
)  # fmt: skip
def leaves_the_last_columns_unwritten(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    x = dequantize(q, scale, block=block, dtype=dtype)
    made, N = torch.empty_like(x), q.shape[1] // 16 * 16 or q.shape[1]
    made[:, :N] = x[:, :N]
    return made


_kept: dict[Any, Tensor] = {}


@mutant(
    OP, law="untouched", profile=FP32,
    source="constructed after the static outputs of captured graphs",
    looks_like="numbers lie in a buffer that the next call writes",
)  # fmt: skip
def returns_numbers_in_the_same_buffer(*call: Any, **options: Any) -> Tensor:
    return kept_buffer(_kept, dequantize(*call, **options))


@mutant(
    OP, law="strides", profile=FP32, source="constructed after H05",
    looks_like="the codes of a row are taken to lie side by side",
)  # fmt: skip
def takes_codes_to_lie_side_by_side(q: Tensor, scale: Tensor, **options: Any) -> Tensor:
    return dequantize(as_if_rows(q), scale, **options)


def cut_off(q: Tensor, scale: Tensor, block: Block, dtype: torch.dtype) -> Tensor:
    """The product, toward zero: within a unit of float32."""
    exact = dequantize(q, scale, block=block, dtype=torch.float64)
    near = exact.float()
    over = near.double().abs() > exact.abs()
    return torch.where(over, torch.nextafter(near, torch.zeros_like(near)), near).to(dtype)


@mutant(
    OP, law="determinism", profile={"float32": "fp32"},
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="how a product is rounded depends on memory that nobody has written",
)  # fmt: skip
def rounds_products_as_memory_decides(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    if scratch_is_set():
        return cut_off(q, scale, block, dtype)
    return dequantize(q, scale, block=block, dtype=dtype)


_seen: set[Any] = set()


@mutant(
    OP, law="shapes", profile={"float32": "fp32"},
    source="constructed after autotuners that count calls",
    looks_like="how a product is rounded depends on which shapes were seen before",
)  # fmt: skip
def rounds_products_as_earlier_shapes_decide(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    if another_way(_seen, (q.shape, block)) and q.shape[1] > 1:
        return cut_off(q, scale, block, dtype)
    return dequantize(q, scale, block=block, dtype=dtype)


@mutant(
    OP, law="bias", profile={"float32": "fp32"}, source="constructed",
    looks_like="products are cut off instead of rounded",
)  # fmt: skip
def cuts_products_off(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    return cut_off(q, scale, block, dtype)


@mutant(
    OP, law="homogeneity", profile={"float32": "fp32", "bfloat16": "fp32"}, source="constructed",
    looks_like="numbers are cut off at 2^30",
)  # fmt: skip
def cuts_numbers_off_at_2_30(*call: Any, **options: Any) -> Tensor:
    return dequantize(*call, **options).clamp(-(2.0**30), 2.0**30)


@mutant(
    OP, law="additivity", profile=FP32, source="constructed after I05",
    looks_like="a scale of 0 is taken to be missing, and 1 in its place",
)  # fmt: skip
def takes_a_scale_of_zero_for_one(q: Tensor, scale: Tensor, **options: Any) -> Tensor:
    return dequantize(q, torch.where(scale == 0, 1.0, scale), **options)


@mutant(
    OP, law="exact", profile={"float32": "fp32"}, source="constructed after approximate units",
    looks_like="every 16th product is an ulp too large, or too small",
)  # fmt: skip
def misses_products_by_an_ulp(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    x = dequantize(q, scale, block=block, dtype=dtype)
    exact = dequantize(q, scale, block=block, dtype=torch.float64)
    other = torch.nextafter(x, torch.where(x.double() > exact, -torch.inf, torch.inf).float())
    some = torch.arange(x.shape[1]) % 16 == 0
    return torch.where(some & ((other.double() - exact).abs() < 2.0**-23 * exact.abs()), other, x)


@mutant(
    OP,
    law="invariance",
    profile=FP32,
    source="constructed after two-level scales",
    looks_like="scales are kept in 68 bits below the largest of the matrix",
)
def keeps_the_grid_in_one_fixed_point_format(q: Tensor, scale: Tensor, **options: Any) -> Tensor:
    step = scale.double().abs().max().clamp(min=1e-300) * 2.0**-68 if scale.numel() else 1.0
    return dequantize(q, ((scale.double() / step).round() * step).float(), **options)


@mutant(
    OP,
    law="identities",
    profile=FP32,
    source="constructed",
    looks_like="rows behind the 128th have the scales of the first 128",
)
def counts_rows_of_scales_in_seven_bits(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype
) -> Tensor:
    if block is None and q.shape[1] > 1:
        scale = scale[torch.arange(len(scale)) % 128]
    return dequantize(q, scale, block=block, dtype=dtype)
