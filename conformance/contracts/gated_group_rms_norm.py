"""The contract of gated_group_rms_norm.

Letters: B batch, T tokens, D channels, G groups.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

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
from lingspec.conformance.contracts import _rows
from lingspec.reference import gated_group_rms_norm

__all__ = ["GATED_GROUP_RMS_NORM"]

# Channels and groups: groups of one channel, of a power of two and of none, and only one group.
SHAPES = (
    (16, 2), (8, 1), (8, 8), (1, 1), (33, 3), (64, 8), (96, 4), (96, 8), (100, 2), (120, 8),
    (200, 1), (257, 1), (258, 2), (512, 4), (1000, 8), (1024, 2),
)  # fmt: skip
# ajar: around 0; wide: to 100 either way; shut: 0 exactly, and -100; open: 0 and 100.
GATES = ("ajar", "wide", "shut", "open")


def make(case: Case) -> Call:
    """Rows, gates of their own family, and weights of both signs."""
    a = case.axes
    if a["D"] % a["G"]:
        raise CaseError(f"case {str(case)!r} has D = {a['D']}, but must have a multiple of G")
    g = values.rng(case.seed)
    shape = (a["B"], a["T"], a["D"])
    x = _rows.numbers(case, shape, g)
    tensors = {
        "x": _rows.floats(case, x, 0, 2),
        "gate": _rows.floats(case, _gates(case.traits["gates"], shape, g), 1, 2),
        "weight": values.weights((a["D"],), g).to(case.torch_dtype),
    }
    params = {"groups": a["G"], "eps": _rows.EPS[case.seed % len(_rows.EPS)]}
    coherent = case.traits["values"] in values.COHERENT
    far = values.far_ones(case, {n: tensors[n] for n in ("x", "gate")})
    return Call(case.op, tensors, params, coherent, far=far)


def _gates(kind: str, shape: tuple[int, ...], g: Generator) -> Tensor:
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    if kind == "wide":
        return 100 * x.clamp(-1, 1)
    if kind in ("shut", "open"):
        return torch.where(x > 0, -100.0 if kind == "shut" else 100.0, 0.0)
    return x


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    several = tuple(s for s in SHAPES if s[1] > 1)
    D, G = pick(several if law in ("groups", "identities") else SHAPES)
    axes = _rows.rows(pick, law, (D,), small=cost == "interpreted") | {"G": G}
    axes, rank = _rows.ranked(pick, law, axes)
    gates = {"exact": GATES[3:], "bias": GATES[:1]}.get(law, GATES)
    traits = {
        "values": _rows.family(pick, law), "gates": pick(gates), "layout": _rows.layout(pick, law),
        "rank": rank,
    }  # fmt: skip
    seed = pick(range(0x10000))
    return Case("gated_group_rms_norm", dtype, axes, traits, frozenset(), None, 0, seed, law)


def exact(call: Call, _: Profile) -> frozenset[str]:
    """Groups of one size and both signs, through gates that are half or wholly open."""
    x, gate = call.tensors["x"], call.tensors["gate"]
    grouped = _rows.parted(x, call.params["groups"])
    gates = bool(((gate == 0) | (gate >= 50)).all())
    return frozenset({"y"} if gates and _rows.units(grouped, call.params["eps"]) else ())


def regions(call: Call) -> list[dict[str, slice]]:
    """The channels of each group."""
    D, G = call.tensors["weight"].numel(), call.params["groups"]
    return [{"D": slice(n * (D // G), (n + 1) * (D // G))} for n in range(G)]


def _scaled(call: Call, g: Generator) -> Call | None:
    return _rows.scaled(call, ("x",), g)


def _stays(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["y"], after["y"], rtol=1e-12)


def _last_groups(call: Call, _: Generator) -> Call | None:
    """What the last rank of two, or of as many as there are groups, computes."""
    G, D = call.params["groups"], call.tensors["weight"].numel()
    if G == 1:
        return None
    kept = max(G // 2, 1)
    width = kept * (D // G)
    part = {n: x[..., D - width :] for n, x in call.tensors.items()}
    return replace(call.with_tensors(**part), params={**call.params, "groups": kept})


def _is_the_end(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["y"][..., -after["y"].shape[-1] :], after["y"], rtol=1e-12)


def _twice(call: Call, _: Generator) -> Call | None:
    """All groups once more, behind themselves."""
    both = {n: torch.cat([x, x], -1) for n, x in call.tensors.items()}
    params = {**call.params, "groups": 2 * call.params["groups"]}
    return replace(call.with_tensors(**both), params=params)


def _is_twice(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(torch.cat([before["y"]] * 2, -1), after["y"], rtol=1e-12)


INPUTS = (
    TensorSpec("x", "BTD", "input", free=True),
    TensorSpec("gate", "BTD", "input", free=True),
    TensorSpec("weight", "D", "input"),
)
OUTPUTS = (TensorSpec("y", "BTD", "input"),)
ANALYSIS = Analysis(gated_group_rms_norm, INPUTS, OUTPUTS)

GATED_GROUP_RMS_NORM = Contract(
    op="gated_group_rms_norm",
    summary="groups of channels scaled to unit root-mean-square, weighed and gated",
    signature="(x[..., D], gate[..., D], weight[D], *, groups, eps) -> y",
    inputs=INPUTS,
    params={"groups": "a divisor of D", "eps": "> 0"},
    outputs=OUTPUTS,
    positional=("x", "gate", "weight"),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "D": (1, 1024), "G": (1, 8)},
    traits={
        "values": _rows.FAMILIES, "gates": GATES, "layout": _rows.LAYOUTS, "rank": _rows.RANKS,
    },
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
        "groups that do not divide D, eps <= 0",
        "weight that is not contiguous",
        "bitwise equality between implementations",
    ),
    make=make,
    authority=ANALYSIS.authority,
    variants=ANALYSIS.variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "invariance", "identities", "groups", "bias", "shapes", "scale",
    ),
    relations={
        "scaled": Relation("rows times 2^n, eps times 4^n", "invariance", _scaled, _stays),
        "last": Relation("the last groups alone", "identities", _last_groups, _is_the_end),
        "twice": Relation("all groups twice", "identities", _twice, _is_twice),
    },
    regions=regions,
)  # fmt: skip
