"""The contract of moe_experts.

Letters: T tokens, D hidden size, E experts, I hidden channels of an expert, C chosen experts.
"""

from __future__ import annotations

from typing import Any

from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.profiles import NAMES
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Algebra, Contract, Group, Pick, TensorSpec
from lingspec.conformance.contracts import _matrices
from lingspec.conformance.contracts._experts import (
    FAMILIES,
    INDEPENDENT,
    RELATIONS,
    ROUTES,
    SPLITS,
    WEIGHTS,
    batched,
    exact,
    make,
)

__all__ = ["MOE_EXPERTS"]

EXPERTS = (4, 1, 2, 3, 5, 8, 16, 32)
HIDDEN = (8, 1, 3, 16, 17, 33, 48, 64)  # channels of an expert


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then routing, values and weights."""
    small, is_exact = cost == "interpreted", law == "exact"
    least = 2 if law in ("permutation", "determinism", "bias") else 1
    counts: Any = (range(least, 18), (31, 32, 33), _matrices.MANY)
    if law == "authority":
        counts = ((0, 1), *counts, _matrices.MANY)
    T = pick(pick(counts))
    E, D, hidden = pick(EXPERTS), pick(_matrices.DIMS), pick(HIDDEN)
    C = min(pick((2, 1, 3, 4, 6, 8)), E)
    if is_exact:  # so that few products are added
        D, hidden = min(D, 33), min(hidden, 17)
    if pick(range(12)) == 11 or (
        law == "identities" and pick((0, 0, 1))
    ):  # as many experts as the model has
        E, D, hidden, C, T = 256, min(D, 16), min(hidden, 16), 8, min(T, 17)
    # Rows enough for their mean to tell 1 %, which in 16 bits no element does.
    many = small and law == "authority" and pick(range(3)) == 2
    if law == "bias":  # many rows, each with little that is rounded before the last
        T, D, E = 24 if small else 1000, pick((8, 3, 16)), pick((4, 2))
        hidden, C = pick((8, 3)), pick((1, 2))
    elif many:
        T, E, D, hidden = pick((128, 160, 192)), min(E, 4), min(D, 16), min(hidden, 8)
        C = min(C, E, 2)
    elif small:
        T, E, D, hidden = min(T, 7), min(E, 8), min(D, 33), min(hidden, 17)
        C = min(C, E, 3)
    families = INDEPENDENT[:2] if law == "bias" else INDEPENDENT if many else FAMILIES
    routes = tuple(r for r in ROUTES if r != "absent") if law == "bias" else ROUTES
    traits = {
        "values": "integers" if is_exact else pick(families),
        "routing": pick(routes),
        "weights": "powers" if is_exact else pick(WEIGHTS[:-1]),
        "layout": _matrices.layout(pick, law),
    }
    axes = {"T": T, "D": D, "E": E, "I": hidden, "C": C}
    return Case("moe_experts", dtype, axes, traits, frozenset(), None, 0, pick(range(0x10000)), law)


INPUTS = (
    TensorSpec("x", "TD", "input"),
    TensorSpec("gate_up", "EJD", "input"),  # J = 2I
    TensorSpec("down", "EDI", "input"),
    TensorSpec("experts", "TC", "index", means="ids", within="E"),
    TensorSpec("weights", "TC", "state"),
)
OUTPUTS = (TensorSpec("y", "TD", "input"),)
ANALYSIS = Analysis(batched, INPUTS, OUTPUTS)


def told(call: Call) -> dict[str, bool]:
    """Whether an expert is -1: laws make such calls of others, as expert parallelism does."""
    return {"foreign": bool((call.tensors["experts"] < 0).any())}


LINEAR = (
    Group(("up",), ("y",)),
    Group(("down",), ("y",)),
    Group(("weights",), ("y",)),
)

MOE_EXPERTS = Contract(
    op="moe_experts",
    summary="every token through its experts, added up with its weights",
    signature="(x[T,D], gate_up[E,2I,D], down[E,D,I], experts[T,k], weights[T,k]) -> y[T,D]",
    inputs=INPUTS,
    params={},
    outputs=OUTPUTS,
    positional=("x", "gate_up", "down", "experts", "weights"),
    mutable=frozenset(),
    axes={"T": (0, 1000), "D": (1, 100), "E": (1, 256), "I": (1, 64), "C": (1, 8)},
    traits={
        "values": FAMILIES, "routing": ROUTES, "weights": WEIGHTS, "layout": _matrices.LAYOUTS,
    },
    flags=(),
    algebra=Algebra(
        independent=("T",),
        homogeneous_in=LINEAR,
        linear_in=LINEAR,
        shardable=("T",),
        unbiased=("y",),
    ),
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite, the weight of expert -1 among them",
        "an expert twice among those of a token",
        "hidden channels that overflow their format",
        "experts or weights that are not contiguous",
        "bitwise equality between implementations",
    ),
    make=make,
    authority=ANALYSIS.authority,
    variants=ANALYSIS.variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "sharding", "invariance", "identities", "bias", "shapes", "scale",
    ),
    exact=exact,
    relations=RELATIONS,
    told=told,
    splits=SPLITS,
    parts={"up": ("gate_up", 1)},
)  # fmt: skip
