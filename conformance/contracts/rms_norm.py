"""The contract of rms_norm."""

from __future__ import annotations

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.profiles import NAMES
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Algebra, Contract, Group, Pick, TensorSpec
from lingspec.conformance.contracts import _rows
from lingspec.reference import rms_norm

__all__ = ["DIMS", "EPS", "RMS_NORM"]

# Rows of one and two channels, powers of two, what lies beside them, and none of these.
DIMS = (8, 1, 2, 3, 16, 33, 64, 96, 100, 128, 200, 255, 256, 257, 512, 1000, 1030)
EPS = (1e-6, 1e-5, 1e-3)


def make(case: Case) -> Call:
    """Rows, and weights of both signs."""
    a, family = case.axes, case.traits["values"]
    g = values.rng(case.seed)
    tame = case.dtype == "f16"
    x = values.tokens(family, (a["B"], a["T"], a["D"]), g, salt=0, tame=tame)
    tensors = {
        "x": _rows.floats(case, x, 0),
        "weight": values.weights((a["D"],), g).to(case.torch_dtype),
    }
    eps = EPS[int(case.seed) % len(EPS)]
    coherent = family in values.COHERENT
    far = values.far_ones(case, {"x": tensors["x"]})
    return Call(case.op, tensors, {"eps": eps}, coherent, far=far)


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    axes = _rows.rows(pick, law, DIMS, small=cost == "interpreted")
    axes, rank = _rows.ranked(pick, law, axes)
    families = ("normal", "small", "heavy") if law == "bias" else values.ROWS
    traits = {"values": pick(families), "layout": _rows.layout(pick, law), "rank": rank}
    seed = pick(range(0x10000))
    return Case("rms_norm", dtype, axes, traits, frozenset(), None, 0, seed, law)


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
    traits={"values": values.ROWS, "layout": _rows.LAYOUTS, "rank": _rows.RANKS},
    flags=(),
    algebra=Algebra(
        independent=("B", "T"),
        homogeneous_in=(Group(("weight",), ("y",)),),
        linear_in=(Group(("weight",), ("y",)),),
        unbiased=("y",),
    ),
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite, or whose squares overflow float32",
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
        "strides", "bias", "shapes",
    ),
)  # fmt: skip
