"""The contract of partial_rope.

Letters: B batch, T tokens, H heads, K head dim, R rotary dims, F = R/2 pairs.
"""

from __future__ import annotations

import torch
from torch import Generator

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.case import Call, Case, CaseError
from lingspec.conformance.contract import (
    Algebra,
    Contract,
    Group,
    Pick,
    Relation,
    TensorSpec,
    Values,
)
from lingspec.conformance.contracts import _rope
from lingspec.reference import partial_rope

__all__ = ["PARTIAL_ROPE", "exact"]


def make(case: Case) -> Call:
    """Heads, and the table of where their tokens stand."""
    a = case.axes
    if a["R"] % 2 or a["R"] > a["K"]:
        raise CaseError(f"case {str(case)!r} has R = {a['R']}, but must have an even one up to K")
    g = values.rng(case.seed)
    x = _rope.heads(case, (a["B"], a["T"], a["H"], a["K"]), g)
    wide = torch.float64 if case.dtype == "f64" else torch.float32
    cos, sin = _rope.table(case, (a["B"], a["T"], a["R"] // 2), g)
    tensors = {"x": values.laid_out(x.to(case.torch_dtype), values.layout_of(case, 0))}
    for turn, (name, part) in enumerate((("cos", cos), ("sin", sin)), 1):
        place = values.state_layout(values.layout_of(case, turn))
        tensors[name] = values.laid_out(part.to(wide), place)
    coherent = case.traits["values"] in values.COHERENT or case.traits["layout"] == "expanded"
    return Call(case.op, tensors, {}, coherent, far=values.far_ones(case, tensors))


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    axes = _rope.axes(pick, law, _rope.DIMS, small=cost == "interpreted")
    return rotation("partial_rope", pick, law, dtype, axes)


def rotation(op: str, pick: Pick, law: str, dtype: str, axes: dict[str, int]) -> Case:
    """The case of a rotation of given sizes."""
    traits = {
        "values": _rope.family(pick, law), "places": _rope.places(pick, law),
        "table": _rope.tables(pick, law), "layout": _rope.layout(pick, law),
    }  # fmt: skip
    return Case(op, dtype, axes, traits, frozenset(), None, 0, pick(range(0x10000)), law)


def exact(call: Call, _: Profile) -> frozenset[str]:
    """Integers of 8 bits, turned by quarters of a circle, change places and signs."""
    x = call.tensors["x"].double()
    whole = bool((x == x.round()).all() and (x.abs() <= 2.0**8).all())
    return frozenset({"y"} if whole and _rope.quarter_turns(call.tensors) else ())


def _doubled(call: Call, _: Generator) -> Call | None:
    return call.with_tensors(**_rope.doubled(call.tensors))


def _doubles(before: Values, after: Values, call: Call) -> bool:
    R = 2 * call.tensors["cos"].shape[-1]
    a, b = before["y"], after["y"]
    return torch.allclose(2 * a[..., :R], b[..., :R]) and torch.equal(a[..., R:], b[..., R:])


def _alone(call: Call, _: Generator) -> Call | None:
    """The rotated dims without the others."""
    R = 2 * call.tensors["cos"].shape[-1]
    x = call.tensors["x"]
    return call.with_tensors(x=x[..., :R]) if x.shape[-1] > R else None


def _is_the_start(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["y"][..., : after["y"].shape[-1]], after["y"], rtol=1e-12)


INPUTS = (
    TensorSpec("x", "BTHK", "input"),
    TensorSpec("cos", "BTF", "state"),
    TensorSpec("sin", "BTF", "state"),
)
OUTPUTS = (TensorSpec("y", "BTHK", "input"),)
ANALYSIS = Analysis(partial_rope, INPUTS, OUTPUTS)

PARTIAL_ROPE = Contract(
    op="partial_rope",
    summary="the first dims of each head rotated by position, in halves; the others pass",
    signature="(x[B,T,H,K], cos[B,T,R/2], sin[B,T,R/2]) -> y",
    inputs=INPUTS,
    params={},
    outputs=OUTPUTS,
    positional=("x", "cos", "sin"),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "H": (1, 5), "K": (2, 128), "R": (2, 128)},
    traits={
        "values": _rope.FAMILIES, "places": _rope.PLACES, "table": _rope.TABLES,
        "layout": _rope.LAYOUTS,
    },
    flags=(),
    algebra=Algebra(
        independent=("B", "T", "H"),
        homogeneous_in=(Group(("x",), ("y",)),),
        linear_in=(Group(("x",), ("y",)),),
        shardable=("H",),
        unbiased=("y",),
    ),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite",
        "R = 0",
        "bitwise equality between implementations, but for the dims that pass",
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
        "doubled": Relation("a table twice as large", "identities", _doubled, _doubles),
        "alone": Relation("the rotated dims alone", "identities", _alone, _is_the_start),
    },
)  # fmt: skip
