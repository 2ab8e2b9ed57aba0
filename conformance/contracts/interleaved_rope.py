"""The contract of interleaved_rope.

Letters: B batch, T tokens, H heads, R rotary dims, F = R/2 pairs.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator

from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.profiles import NAMES
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
from lingspec.conformance.contracts import _rope, _rows, partial_rope
from lingspec.reference import interleaved_rope

__all__ = ["INTERLEAVED_ROPE"]

DIMS = tuple((R, R) for R in (4, 2, 6, 8, 10, 16, 20, 32, 64, 64, 128))


def make(case: Case) -> Call:
    """Heads of nothing but rotary dims, and the table of where their tokens stand."""
    whole = replace(case, axes={**case.axes, "K": case.axes["R"]})
    return replace(partial_rope.make(whole), op=case.op)


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    axes = _rope.axes(pick, law, DIMS, small=cost == "interpreted")
    axes.pop("K")
    return partial_rope.rotation("interleaved_rope", pick, law, dtype, axes)


def _twice(call: Call, _: Generator) -> Call | None:
    """All pairs once more, behind themselves."""
    return call.with_tensors(**{n: torch.cat([x, x], -1) for n, x in call.tensors.items()})


def _is_twice(before: Values, after: Values, _: Call) -> bool:
    a, b = (_rows.parted(y, 2) for y in (before["y"], after["y"]))
    return torch.allclose(torch.cat([a, a], -1), b, rtol=1e-12)


def _turned(call: Call, _: Generator) -> Call | None:
    """Pairs in reverse, in rows and table alike."""
    t = call.tensors
    x = _rows.parted(t["x"], t["x"].shape[-1] // 2).flip(-2).flatten(-2)
    return call.with_tensors(x=x, cos=t["cos"].flip(-1), sin=t["sin"].flip(-1))


def _turns(before: Values, after: Values, _: Call) -> bool:
    a, b = (_rows.parted(y, 2) for y in (before["y"], after["y"]))
    return torch.allclose(a.flip(-1), b, rtol=1e-12)


INPUTS = (
    TensorSpec("x", "BTHR", "input"),
    TensorSpec("cos", "BTF", "state"),
    TensorSpec("sin", "BTF", "state"),
)
OUTPUTS = (TensorSpec("y", "BTHR", "input"),)
ANALYSIS = Analysis(interleaved_rope, INPUTS, OUTPUTS)
LINEAR = (Group(("x",), ("y",)), Group(("cos", "sin"), ("y",)))

INTERLEAVED_ROPE = Contract(
    op="interleaved_rope",
    summary="neighbouring dims rotated as pairs, and left de-interleaved",
    signature="(x[B,T,H,R], cos[B,T,R/2], sin[B,T,R/2]) -> y",
    inputs=INPUTS,
    params={},
    outputs=OUTPUTS,
    positional=("x", "cos", "sin"),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "H": (1, 5), "R": (2, 128)},
    traits={
        "values": _rope.FAMILIES, "places": _rope.PLACES, "table": _rope.TABLES,
        "layout": _rope.LAYOUTS,
    },
    flags=(),
    algebra=Algebra(
        independent=("B", "T", "H"),
        homogeneous_in=LINEAR,
        linear_in=LINEAR,
        shardable=("H",),
        unbiased=("y",),
    ),
    exact=partial_rope.exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite",
        "R = 0",
        "bitwise equality between implementations",
    ),
    make=make,
    authority=ANALYSIS.authority,
    variants=ANALYSIS.variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "sharding", "identities", "bias", "shapes", "scale",
    ),
    relations={
        "turned": Relation("pairs in reverse", "identities", _turned, _turns),
        "twice": Relation("all pairs twice", "identities", _twice, _is_twice),
    },
)  # fmt: skip
