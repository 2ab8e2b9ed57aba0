"""The contract of rms_norm."""

from __future__ import annotations

import torch
from torch import Generator

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
from lingspec.reference import rms_norm

__all__ = ["DIMS", "RMS_NORM"]

# Rows of one and two channels, powers of two, what lies beside them, and none of these.
DIMS = (8, 1, 2, 3, 16, 33, 64, 96, 100, 128, 200, 255, 256, 257, 512, 1000, 1030)


def make(case: Case) -> Call:
    """Rows, and weights of both signs."""
    a = case.axes
    g = values.rng(case.seed)
    x = _rows.numbers(case, (a["B"], a["T"], a["D"]), g)
    tensors = {
        "x": _rows.floats(case, x, 0, 1),
        "weight": values.weights((a["D"],), g).to(case.torch_dtype),
    }
    eps = _rows.EPS[case.seed % len(_rows.EPS)]
    coherent = case.traits["values"] in values.COHERENT
    far = values.far_ones(case, {"x": tensors["x"]})
    return Call(case.op, tensors, {"eps": eps}, coherent, far=far)


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    axes = _rows.rows(pick, law, DIMS, small=cost == "interpreted")
    axes, rank = _rows.ranked(pick, law, axes)
    traits = {
        "values": _rows.family(pick, law), "layout": _rows.layout(pick, law), "rank": rank,
    }  # fmt: skip
    seed = pick(range(0x10000))
    return Case("rms_norm", dtype, axes, traits, frozenset(), None, 0, seed, law)


def exact(call: Call, _: Profile) -> frozenset[str]:
    """Rows of one size and both signs give the weights with these signs."""
    return frozenset({"y"} if _rows.units(call.tensors["x"], call.params["eps"]) else ())


def _scaled(call: Call, g: Generator) -> Call | None:
    return _rows.scaled(call, ("x",), g)


def _stays(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["y"], after["y"], rtol=1e-12)


INPUTS = (TensorSpec("x", "BTD", "input", free=True), TensorSpec("weight", "D", "input"))
OUTPUTS = (TensorSpec("y", "BTD", "input"),)
ANALYSIS = Analysis(rms_norm, INPUTS, OUTPUTS)

RMS_NORM = Contract(
    op="rms_norm",
    summary="rows scaled to unit root-mean-square, then weighed",
    signature="(x[..., D], weight[D], *, eps) -> y",
    inputs=INPUTS,
    params={"eps": "> 0"},
    outputs=OUTPUTS,
    positional=("x", "weight"),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "D": (1, 1030)},
    traits={"values": _rows.FAMILIES, "layout": _rows.LAYOUTS, "rank": _rows.RANKS},
    flags=(),
    algebra=Algebra(
        independent=("B", "T"),
        homogeneous_in=(Group(("weight",), ("y",)),),
        linear_in=(Group(("weight",), ("y",)),),
        unbiased=("y",),
    ),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite, or whose sum of squares overflows float32",
        "eps <= 0",
        "weight that is not contiguous",
        "bitwise equality between implementations",
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
    },
)  # fmt: skip
