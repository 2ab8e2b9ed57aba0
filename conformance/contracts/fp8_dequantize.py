"""The contract of fp8_dequantize.

Letters: M rows, N columns, R and S rows and columns of scales.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.codes import WithNaN
from lingspec.conformance.accuracy.formats import of_dtype
from lingspec.conformance.accuracy.limits import limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import running
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import (
    Algebra,
    Contract,
    Expectations,
    Group,
    Pick,
    Relation,
    TensorSpec,
    Values,
)  # fmt: skip
from lingspec.conformance.contracts import _blocks, _matrices
from lingspec.conformance.contracts._blocks import one_of
from lingspec.reference.ops.fp8_dequantize import unscaled

__all__ = ["FP8_DEQUANTIZE"]

CODES = ("anywhere", "subnormal", "largest", "sparse", "inked")
SCALES = ("even", "spread", "tiny", "rising", "powers")
NAN = 0x7F
LOUD = 1e22  # of products; limits of larger ones say nothing


def make(case: Case) -> Call:
    """Codes of a kind, scales of a kind."""
    M, N = case.axes["M"], case.axes["N"]
    block, g = _blocks.block_of(case), values.rng(case.seed)
    codes = _codes(case.traits["codes"], (M, N), g)
    if "nan" in case.flags and codes.numel():
        gone = torch.rand(M, N, generator=g) < 0.1
        gone[one_of(M, g), one_of(N, g)] = True
        codes = torch.where(gone, codes | NAN, codes)
    shape = _blocks.scale_shape((M, N), block)
    narrow = case.dtype == "f16"
    scale = _scales(case.traits["sizes"], shape, g, narrow=narrow)
    if case.traits["sizes"] == "spread" and case.law not in NUMBERS:
        codes, scale = _loud(codes, scale, block, g, narrow=narrow)
    laid = [
        values.laid_out(x.unsqueeze(0), values.layout_of(case, turn, 2))[0]
        for turn, x in enumerate((codes.view(torch.float8_e4m3fn), scale))
    ]
    tensors = dict(zip(("q", "scale"), laid, strict=True))
    params = {"block": block, "dtype": case.torch_dtype}
    coherent = case.traits["codes"] == "largest" or case.traits["sizes"] in ("rising", "powers")
    return Call(case.op, tensors, params, coherent, far=values.far_ones(case, tensors))


def _codes(kind: str, shape: tuple[int, int], g: Generator) -> Tensor:
    """Bytes, none of them NaN."""
    sign = 0x80 * torch.randint(0, 2, shape, generator=g)
    size = torch.randint(0, 8 if kind == "subnormal" else NAN, shape, generator=g)
    if kind == "largest":
        size = torch.full(shape, NAN - 1)
    elif kind == "sparse":
        size = size * (torch.rand(shape, generator=g) < 0.2)
    elif kind == "inked":  # every byte in turn
        size = torch.arange(size.numel()).view(shape) % NAN
    return (sign + size).to(torch.uint8)


def _scales(kind: str, shape: tuple[int, int], g: Generator, *, narrow: bool) -> Tensor:
    x = 0.5 + torch.rand(shape, generator=g, dtype=torch.float64)
    most = 6 if narrow else 21
    if kind == "spread":
        x = x * 2.0 ** torch.randint(-20, most, shape, generator=g)
    elif kind == "tiny":
        x = x * (2.0**-12 if narrow else 2.2e-33)
    elif kind == "rising":  # no two the same, each a little more than the one before
        x = 1 + torch.arange(x.numel(), dtype=torch.float64).view(shape) / 64
    elif kind == "powers":
        x = 2.0 ** torch.randint(-8, 6, shape, generator=g).double()
    return x.float()


def _loud(
    codes: Tensor, scale: Tensor, block: Any, g: Generator, *, narrow: bool
) -> tuple[Tensor, Tensor]:
    """Some scales as large as products with them may be; the largest of all where codes are 0."""
    kind = torch.rand(scale.shape, generator=g)
    nothing = _blocks.to_groups(kind < 0.2, codes.shape, block)
    codes = torch.where(nothing, codes & 0x80, codes)
    sizes = codes.view(torch.float8_e4m3fn).double().abs().nan_to_num()
    most = torch.zeros(scale.numel(), dtype=torch.float64)
    where = _blocks.places(codes.shape, block).flatten()
    most = most.scatter_reduce(0, where, sizes.flatten(), "amax").view(scale.shape)
    single = torch.finfo(torch.float32).max
    largest = torch.finfo(torch.float16).max if narrow else LOUD
    room = torch.where(most == 0, single, (largest / most).clamp(max=single))
    share = 0.9 + 0.08 * torch.rand(scale.shape, generator=g, dtype=torch.float64)
    return codes, torch.where(kind < 0.4, share * room, scale.double()).float()


def authority(call: Call, profile: Profile) -> Expectations:
    """The lines of the reference; NaN is 0 for them."""
    q, scale = call.tensors["q"].double(), call.tensors["scale"].double()
    nan = q.isnan()
    number: Any = running(scale, profile)
    dtype = call.params["dtype"]
    made = unscaled(q.masked_fill(nan, 0.0), number, call.params["block"], torch.float64)
    found = limits("x", [made], profile, of_dtype(dtype), coherent=call.coherent)
    return {"x": WithNaN(found, nan) if bool(nan.any()) else found}


def variants(call: Call, _: Profile) -> list[dict[str, Tensor]]:
    """The reference: scales are float32 whatever is declared."""
    return [_unscaled(call, call.tensors["scale"])]


def rounded(call: Call, profile: Profile) -> list[dict[str, Tensor]]:
    """The same, and with scales that are rounded first."""
    scale, form = call.tensors["scale"], profile.points.get("operand")
    return [_unscaled(call, s) for s in ([scale] if form is None else [scale, form.cast(scale)])]


def _unscaled(call: Call, scale: Tensor) -> dict[str, Tensor]:
    block, dtype = call.params["block"], call.params["dtype"]
    return {"x": unscaled(call.tensors["q"], scale, block, dtype)}


def exact(call: Call, _: Profile) -> frozenset[str]:
    """Scales that are powers of two: four bits, which every format holds."""
    scale = call.tensors["scale"].double()
    smallest = float(scale.min()) * 2.0**-9 if scale.numel() else 1.0
    fits = smallest >= of_dtype(call.params["dtype"]).tiny
    powers = bool((torch.frexp(scale).mantissa == 0.5).all())
    return frozenset({"x"} if powers and fits else ())


# -- relations -------------------------------------------------------------------------------


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())


def _neighbours(call: Call, g: Generator) -> Call | None:
    """One scale as it was, all others smaller."""
    scale = call.tensors["scale"]
    if scale.numel() < 2:
        return None
    kept = torch.arange(scale.numel()).view(scale.shape) == one_of(scale.numel(), g)
    by = 2.0**-60 if float(scale.min()) > 2.0**-60 else 0.125
    return call.with_tensors(scale=torch.where(kept, scale, scale * by))


def _only_smaller(before: Values, after: Values, _: Call) -> bool:
    a, b = before["x"].nan_to_num(), after["x"].nan_to_num()
    return bool(((a == b) | (a == 8 * b) | (a == 2.0**60 * b)).all())


def _negated(call: Call, _: Generator) -> Call | None:
    codes = call.tensors["q"].view(torch.uint8) ^ 0x80
    return call.with_tensors(q=codes.view(torch.float8_e4m3fn))


def _negates(before: Values, after: Values, _: Call) -> bool:
    return _equal(-before["x"], after["x"])


def _turned(call: Call, _: Generator) -> Call | None:
    t = call.tensors
    if call.params["block"] is None:
        return None
    return call.with_tensors(**{n: x.mT.contiguous() for n, x in t.items()})


def _turns(before: Values, after: Values, _: Call) -> bool:
    return _equal(before["x"].mT, after["x"])


def _cut(call: Call, _: Generator) -> Call | None:
    """The first rows alone, as many as fill blocks."""
    q, scale = call.tensors.values()
    rows = q.shape[0] - 1 if call.params["block"] is None else (q.shape[0] - 1) // 128 * 128
    if rows <= 0:
        return None
    R = _blocks.scale_shape((rows, q.shape[1]), call.params["block"])[0]
    return call.with_tensors(q=q[:rows], scale=scale[:R])


def _is_cut(before: Values, after: Values, _: Call) -> bool:
    return _equal(before["x"][: len(after["x"])], after["x"])


def _spelled_out(call: Call, _: Generator) -> Call | None:
    """Blocks that all have the same scale in a row of them, as rows with that scale."""
    q, scale = call.tensors.values()
    if call.params["block"] is None or not scale.numel():
        return None
    first = scale[:, :1].repeat_interleave(128, dim=0)[: len(q)]
    changed = call.with_tensors(q=q[:, :128].contiguous(), scale=first.contiguous())
    return replace(changed, params={**call.params, "block": None})


def _first_blocks(before: Values, after: Values, _: Call) -> bool:
    return _equal(before["x"][:, : after["x"].shape[1]], after["x"])


RELATIONS = {
    "neighbours": Relation("a row or block beside others", "invariance", _neighbours,
                           _only_smaller),
    "negated": Relation("all codes negated", "invariance", _negated, _negates),
    "turned": Relation("blocks transposed", "identities", _turned, _turns),
    "cut": Relation("the first rows alone", "identities", _cut, _is_cut),
    "spelled": Relation("blocks of the first column as rows", "identities", _spelled_out,
                        _first_blocks),
}  # fmt: skip


# -- cases -----------------------------------------------------------------------------------

NUMBERS = ("permutation", "homogeneity", "additivity", "exact", "bias")  # laws without NaN


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Rows or blocks, their structure, then codes and scales."""
    kinds = {"bias": ("rows",), "identities": ("blocks", "rows")}
    kind = pick(kinds.get(law, _blocks.KINDS))
    axes = _blocks.shape(pick, law, kind, small=cost == "interpreted")
    is_exact, is_bias = law == "exact", law == "bias"
    if is_bias:  # one number a row: equal codes times one scale are rounded alike
        axes = {"M": 96 if cost == "interpreted" else pick((512, 1000)), "N": 1}
    traits = {
        "codes": pick((CODES[0],) if is_bias else CODES),
        "sizes": "powers" if is_exact else pick(SCALES[:1] if is_bias else SCALES[:-1]),
        "scales": kind,
        "layout": _matrices.layout(pick, law),
    }
    flags = frozenset({"nan"} if law not in NUMBERS and pick(range(4)) == 3 else ())
    seed = pick(range(0x10000))
    return Case("fp8_dequantize", dtype, axes, traits, flags, None, 0, seed, law)


LINEAR = (Group(("scale",), ("x",)),)

FP8_DEQUANTIZE = Contract(
    op="fp8_dequantize",
    summary="the numbers that 8-bit floats and their scales stand for",
    signature="(q, scale, *, block=None or (128,128), dtype) -> x",
    inputs=(TensorSpec("q", "MN", "float8_e4m3fn"), TensorSpec("scale", "RS", "float32")),
    params={"block": "None or (128, 128)", "dtype": "of the result"},
    outputs=(TensorSpec("x", "MN", "input"),),
    positional=("q", "scale"),
    mutable=frozenset(),
    axes={"M": (0, 1000), "N": (0, 1000)},
    traits={"codes": CODES, "sizes": SCALES, "scales": _blocks.KINDS, "layout": _matrices.LAYOUTS},
    flags=("nan",),
    algebra=Algebra(homogeneous_in=LINEAR, linear_in=LINEAR, unbiased=("x",)),
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "scales that are not finite and above 0",
        "products beyond what the result's format holds",
        "which NaN",
        "the sign of 0",
    ),
    make=make,
    authority=authority,
    variants=variants,
    rounded=rounded,
    draw=draw,
    laws=(
        "authority", "homogeneity", "additivity", "determinism", "untouched", "strides", "exact",
        "invariance", "identities", "bias", "shapes",
    ),
    exact=exact,
    relations=RELATIONS,
)  # fmt: skip
