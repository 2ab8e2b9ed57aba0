"""The contract of fp8_quantize: scales with limits, codes that are right for the scales returned.

Letters: M rows, N columns, R and S rows and columns of scales.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.codes import GRID, Coded
from lingspec.conformance.accuracy.formats import FP32
from lingspec.conformance.accuracy.limits import limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile, profile
from lingspec.conformance.accuracy.running import running
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Algebra, Contract, Expectations, Pick, TensorSpec
from lingspec.conformance.contracts import _blocks, _matrices
from lingspec.conformance.contracts._blocks import groups, largest_of, one_of, places, to_groups
from lingspec.conformance.contracts._quantize_relations import LEAST, RELATIONS
from lingspec.reference import fp8_quantize
from lingspec.reference.ops.fp8_quantize import LARGEST

__all__ = ["FP8_QUANTIZE"]

FAMILIES = (
    "normal", "spread", "heavy", "zeros", "single", "negative", "limit", "ties", "tiny", "least",
    "huge", "constant", "exactly",
)  # fmt: skip

# Scales are normal numbers, and so is everything on the way to them: none are flushed.
NORMAL = replace(profile("fp32"), arithmetic=replace(FP32, tiny=0.0))


def make(case: Case) -> Call:
    """A matrix of a kind, in rows or blocks."""
    M, N = case.axes["M"], case.axes["N"]
    block = _blocks.block_of(case)
    x = _matrix(case, M, N, block, values.rng(case.seed))
    tensors = {"x": _matrices.matrix(case, x, 0, 1)}
    return Call(case.op, tensors, {"block": block}, True, far=values.far_ones(case, tensors))


def _matrix(case: Case, M: int, N: int, block: Any, g: Generator) -> Tensor:
    kind, narrow = case.traits["values"], case.dtype == "f16"
    x = torch.randn(M, N, generator=g, dtype=torch.float64)
    scales = _blocks.scale_shape((M, N), block)
    if kind in ("limit", "ties", "exactly"):
        return _on_the_grid(kind, M, N, block, g)
    if kind == "zeros":  # whole rows or blocks, and some elements of others
        alive = to_groups(torch.rand(scales, generator=g) < 0.6, (M, N), block)
        return x * alive * (torch.rand(M, N, generator=g) < 0.7)
    if kind == "single":
        return _single(x, block, g)
    if kind == "spread":
        powers = torch.randint(-6 if narrow else -20, 7 if narrow else 21, scales, generator=g)
        return x * to_groups(2.0 ** powers.double(), (M, N), block)
    if kind == "heavy":
        return x * torch.randn(M, N, generator=g, dtype=torch.float64).exp()
    if kind == "negative":
        return -x.abs() - 0.1
    if kind in ("tiny", "least"):  # least: of which errors never take the scale below 2^-126
        size = {"tiny": 1e-31, "least": LEAST}[kind]
        size = {"tiny": 2.0**-20, "least": 2.0**-24}[kind] if narrow else size
        return _largest_is(size, x, block) if kind == "least" else size * x
    if kind == "huge":
        return _largest_is(float(torch.finfo(_narrow(case)).max), x, block)
    return x[:1, :1].expand(M, N).clone() if kind == "constant" and x.numel() else x


def _narrow(case: Case) -> torch.dtype:
    """The dtype of the inputs; for float64 one whose numbers float32 holds, rounded too."""
    return torch.bfloat16 if case.dtype == "f64" else case.torch_dtype


def _single(x: Tensor, block: Any, g: Generator) -> Tensor:
    """One number in every row or block, often the last one."""
    made = torch.zeros_like(x)
    for rows, columns in groups(x.shape, block):
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        a, b = (high - 1, wide - 1) if one_of(3, g) == 0 else (one_of(high, g), one_of(wide, g))
        made[rows.start + a, columns.start + b] = x[rows.start + a, columns.start + b]
    return made


def _largest_is(size: float, x: Tensor, block: Any) -> Tensor:
    """Every row or block scaled to the same largest magnitude, exactly."""
    x = x.clone()
    for part in groups(x.shape, block):
        here = x[part] / x[part].abs().max()
        x[part] = torch.where(here.abs() == 1, here.sign() * size, here * size)
    return x


def _on_the_grid(kind: str, M: int, N: int, block: Any, g: Generator) -> Tensor:
    """Numbers that a scale takes to codes, and half way between them."""
    middles = (GRID[1:] + GRID[:-1]) / 2
    chosen = {
        "limit": torch.tensor([448.0, 432.0, 440.0, 447.0, 416.0], dtype=torch.float64),
        "ties": middles, "exactly": torch.cat([middles, middles, GRID]),
    }[kind]  # fmt: skip
    x = chosen[torch.randint(0, len(chosen), (M, N), generator=g)]
    x = x * (1 - 2 * torch.randint(0, 2, (M, N), generator=g))
    for rows, columns in groups((M, N), block):
        x[rows, columns][one_of(rows.stop - rows.start, g), -1] = LARGEST
    scales = _blocks.scale_shape((M, N), block)
    size = 2.0 ** torch.randint(-6, 6, scales, generator=g).double()
    if kind != "exactly":  # any scale; in 16 bits the numbers move with it
        size = size * (1 + torch.rand(scales, generator=g, dtype=torch.float64))
    return x * to_groups(size, (M, N), block)


def authority(call: Call, _: Profile) -> Expectations:
    """Scales in float32 whatever is declared, and the codes that follow from a scale."""
    x, used = call.tensors["x"], NORMAL
    M, N = x.shape
    block = call.params["block"]
    q, _scale = fp8_quantize(x, block=block)
    largest = largest_of(x.double(), block)
    number = running(largest.masked_fill(largest == 0, 1.0), used)
    if x.dtype == torch.float64:
        number = number.rounded("operand", FP32)
    quotient = (number / LARGEST).masked_fill(largest == 0, 1.0)
    scale = limits("scale", [quotient], used, used.arithmetic, coherent=True)
    scale = replace(scale, bound=scale.bound.masked_fill(largest == 0, 0.0))
    return {"q": Coded("q", q.double(), x.double(), places((M, N), block), "scale"), "scale": scale}


def variants(call: Call, _: Profile) -> list[dict[str, Tensor]]:
    """The reference, in float32."""
    return [_quantized(call, call.tensors["x"].float())]


def rounded(call: Call, used: Profile) -> list[dict[str, Tensor]]:
    """The same of numbers that are rounded first."""
    x, form = call.tensors["x"].float(), used.points.get("operand")
    return [_quantized(call, x if form is None else form.cast(x))]


def _quantized(call: Call, x: Tensor) -> dict[str, Tensor]:
    q, scale = fp8_quantize(x, block=call.params["block"])
    return {"q": q, "scale": scale}


def exact(call: Call, _: Profile) -> frozenset[str]:
    """Scales that are powers of two, of which any quotient is exact."""
    x = call.tensors["x"].double()
    largest = largest_of(x, call.params["block"]) / LARGEST
    powers = (torch.frexp(largest).mantissa == 0.5) | (largest == 0)
    return frozenset({"q", "scale"} if bool(powers.all()) else ())


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Rows or blocks, their structure, then a value family."""
    kind = pick(_blocks.KINDS)
    axes = _blocks.shape(pick, law, kind, small=cost == "interpreted")
    traits = {
        "values": "exactly" if law == "exact" else pick(FAMILIES[:-1]),
        "scales": kind,
        "layout": _matrices.layout(pick, law),
    }
    seed = pick(range(0x10000))
    return Case("fp8_quantize", dtype, axes, traits, frozenset(), None, 0, seed, law)


FP8_QUANTIZE = Contract(
    op="fp8_quantize",
    summary="8-bit floats with a scale for each row or block",
    signature="(x[M,N], *, block=None or (128,128)) -> (q e4m3fn, scale float32 [M,1] or "
    "[ceil(M/128),ceil(N/128)])",
    inputs=(TensorSpec("x", "MN", "input"),),
    params={"block": "None or (128, 128)"},
    outputs=(TensorSpec("q", "MN", "float8_e4m3fn"), TensorSpec("scale", "RS", "float32")),
    positional=("x",),
    mutable=frozenset(),
    axes={"M": (0, 257), "N": (0, 1000)},
    traits={"values": FAMILIES, "scales": _blocks.KINDS, "layout": _matrices.LAYOUTS},
    flags=(),
    algebra=Algebra(),
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "numbers that are not finite, or that float32 does not hold",
        "rows and blocks whose largest magnitude is above 0 and below 448 * 2^-125",
        "the sign of a code of 0",
        "which of two codes a tie gets where the scale is no power of two",
    ),
    make=make,
    authority=authority,
    variants=variants,
    rounded=rounded,
    draw=draw,
    laws=(
        "authority", "determinism", "untouched", "strides", "exact", "invariance", "identities",
        "shapes",
    ),
    exact=exact,
    relations=RELATIONS,
)  # fmt: skip
