"""The contract of add_rms_norm."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import (
    Algebra,
    Contract,
    Group,
    Pick,
    Relation,
    TensorSpec,
    Values,
)
from lingspec.conformance.contracts import _rows
from lingspec.conformance.contracts.rms_norm import DIMS
from lingspec.reference import add_rms_norm

__all__ = ["ADD_RMS_NORM"]

HIGH = 65_248.0  # of float16, for an error to leave it finite
FAMILIES = (*_rows.FAMILIES, "whole")  # whole: integers whose sums no 8 bits hold


def make(case: Case) -> Call:
    """Two sets of rows, of the same family; in some cases one nearly takes the other away."""
    a, kind = case.axes, case.traits["values"]
    g = values.rng(case.seed)
    shape = (a["B"], a["T"], a["D"])
    if kind == "whole":
        x, residual = (torch.randint(-255, 256, shape, generator=g).double() for _ in "xr")
    else:
        x = _rows.numbers(case, shape, g)
        residual = _beside(case, x, g)
        if kind == "huge" and case.dtype == "f16":
            _fill(x, residual, g)
    tensors = {
        "x": _rows.floats(case, x, 0, 2),
        "residual": _rows.floats(case, residual, 1, 2),
        "weight": values.weights((a["D"],), g).to(case.torch_dtype),
    }
    eps = _rows.EPS[case.seed % len(_rows.EPS)]
    coherent = kind in values.COHERENT
    far = values.far_ones(case, {n: tensors[n] for n in ("x", "residual")})
    return Call(case.op, tensors, {"eps": eps}, coherent, far=far)


def _beside(case: Case, x: Tensor, g: Generator) -> Tensor:
    if case.traits["values"] == "signs":  # the sums are twice or four times x, row by row
        return x * (1.0 + 2.0 * torch.randint(0, 2, (*x.shape[:-1], 1), generator=g))
    other = _rows.numbers(case, tuple(x.shape), g, salt=2)
    return 2.0**-5 * other - x if "cancels" in case.flags else other


def _fill(x: Tensor, residual: Tensor, g: Generator) -> None:
    """One sum of every row is near the largest number of float16, or its negative; in place."""
    part = 32.0 * torch.randint(1024, 2032, x.shape[:-1], generator=g).double()
    sign = torch.randint(0, 2, x.shape[:-1], generator=g) * 2.0 - 1
    x[..., -1], residual[..., -1] = sign * part, sign * (HIGH - part)


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    axes = _rows.rows(pick, law, DIMS, small=cost == "interpreted")
    axes, rank = _rows.ranked(pick, law, axes)
    kind = pick(("whole", "whole", "signs")) if law == "exact" else _rows.family(pick, law)
    traits = {"values": kind, "layout": _rows.layout(pick, law), "rank": rank}
    flags = frozenset({"cancels"} if law != "bias" and pick(range(5)) == 4 else ())
    seed = pick(range(0x10000))
    return Case("add_rms_norm", dtype, axes, traits, flags, None, 0, seed, law)


def exact(call: Call, _: Profile) -> frozenset[str]:
    """A sum that float32 holds is rounded once; rows of one size are normalised to 1 and -1."""
    x, residual = (call.tensors[n].double() for n in ("x", "residual"))
    total = x + residual
    wide = torch.float64 if call.tensors["x"].dtype == torch.float64 else torch.float32
    held = bool((total.to(wide).double() == total).all())
    stored = total.to(call.tensors["x"].dtype)
    even = held and bool((stored.double() == total).all())
    y = even and _rows.units(stored, call.params["eps"])
    return frozenset(["residual_out"] * held + ["y"] * y)


def _scaled(call: Call, g: Generator) -> Call | None:
    return _rows.scaled(call, ("x", "residual"), g)


def _stays(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["y"], after["y"], rtol=1e-12)


def _swapped(call: Call, _: Generator) -> Call | None:
    t = call.tensors
    return call.with_tensors(x=t["residual"], residual=t["x"])


def _all_stay(before: Values, after: Values, call: Call) -> bool:
    kept = torch.equal(before["residual_out"], after["residual_out"])
    return kept and _stays(before, after, call)


INPUTS = (
    TensorSpec("x", "BTD", "input", free=True),
    TensorSpec("residual", "BTD", "input", free=True),
    TensorSpec("weight", "D", "input"),
)
OUTPUTS = (TensorSpec("y", "BTD", "input"), TensorSpec("residual_out", "BTD", "input"))
ANALYSIS = Analysis(add_rms_norm, INPUTS, OUTPUTS)

ADD_RMS_NORM = Contract(
    op="add_rms_norm",
    summary="a residual addition, and its result normalised and weighed",
    signature="(x[..., D], residual[..., D], weight[D], *, eps) -> (y, residual_out)",
    inputs=INPUTS,
    params={"eps": "> 0"},
    outputs=OUTPUTS,
    positional=("x", "residual", "weight"),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "D": (1, 1030)},
    traits={"values": FAMILIES, "layout": _rows.LAYOUTS, "rank": _rows.RANKS},
    flags=("cancels",),
    algebra=Algebra(
        independent=("B", "T"),
        homogeneous_in=(Group(("weight",), ("y",)),),
        linear_in=(Group(("weight",), ("y",)),),
        unbiased=("y", "residual_out"),
        chain=("residual_out", "residual"),
    ),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite, or whose sum of squares overflows float32",
        "sums beyond the largest number of the dtype",
        "eps <= 0",
        "weight that is not contiguous",
        "bitwise equality between implementations, where float32 does not hold a sum",
    ),
    make=make,
    authority=ANALYSIS.authority,
    variants=ANALYSIS.variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "invariance", "bias", "shapes", "scale",
    ),
    relations={
        "scaled": Relation("rows times 2^n, eps times 4^n", "invariance", _scaled, _stays),
        "swapped": Relation("x and the residual exchanged", "invariance", _swapped, _all_stay),
    },
)  # fmt: skip
