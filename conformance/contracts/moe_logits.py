"""The contract of moe_logits.

Letters: T tokens, D hidden size, E experts.
"""

from __future__ import annotations

from typing import Any

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
    Split,
    TensorSpec,
    Values,
)  # fmt: skip
from lingspec.conformance.contracts import _matrices
from lingspec.reference import moe_logits

__all__ = ["MOE_LOGITS"]

FAMILIES = ("normal", "small", "positive", "heavy", "amplitudes", "zeros", "onehot", "constant",
            *values.EXACT)  # fmt: skip
# More channels than a tile has, and the tail of one.
LONG = (128, 129, 200, 255, 256, 257, 512, 1000, 1030)
EXPERTS = (8, 1, 2, 3, 5, 16, 17, 31, 32, 33, 64, 65, 256)


def make(case: Case) -> Call:
    """Rows of a kind, and a weight with rows as a router has them."""
    a, family = case.axes, case.traits["values"]
    g = values.rng(case.seed)
    tame = case.dtype == "f16" and family not in values.EXACT
    x = values.tokens(family, (1, a["T"], a["D"]), g, salt=0, tame=tame)[0]
    integers = family in values.EXACT
    weight = values.tokens(family if integers else "normal", (a["E"], a["D"]), g, salt=2)
    if not integers:  # logits of a few units
        weight = weight * max(a["D"], 1) ** -0.5 * 2.0 ** torch.randint(-1, 3, (1,), generator=g)
    tensors = {"x": _matrices.matrix(case, x, 0, 2), "weight": _matrices.matrix(case, weight, 1, 2)}
    coherent = family in values.COHERENT
    return Call(case.op, tensors, {}, coherent, far=values.far_ones(case, tensors))


def exact(call: Call, profile: Profile) -> frozenset[str]:
    """Integers that operands hold, whose products add up to less than arithmetic holds."""
    x, weight = (t.double() for t in call.tensors.values())
    if not x.numel() * weight.numel():
        return frozenset({"logits"})
    points = [f for p, f in profile.points.items() if p in ("operand", "product")]
    whole = bool((x == x.round()).all()) and bool((weight == weight.round()).all())
    largest = float(max(x.abs().max(), weight.abs().max()))
    total = float((x.abs() @ weight.abs().mT).max())
    product = [f for p, f in profile.points.items() if p == "product"]
    fits = all(largest <= 1 / f.u for f in points) and all(total <= 1 / f.u for f in product)
    return frozenset({"logits"} if whole and fits and total < 1 / profile.arithmetic.u else ())


# -- relations -------------------------------------------------------------------------------


def _close(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["logits"], after["logits"], rtol=1e-11, atol=1e-11)


def _shuffled(call: Call, g: Generator) -> Call | None:
    order = torch.randperm(call.tensors["x"].shape[1], generator=g)
    return call.with_tensors(**{n: x[:, order] for n, x in call.tensors.items()})


def _padded(call: Call, g: Generator) -> Call | None:
    """Channels behind the last, in which one of the two is 0."""
    more = int(torch.randint(1, 20, (1,), generator=g))

    def wider(x: Tensor, fill: float) -> Tensor:
        return torch.cat([x, x.new_full((len(x), more), fill)], dim=1)

    x, weight = call.tensors["x"], call.tensors["weight"]
    return call.with_tensors(x=wider(x, 3.0), weight=wider(weight, 0.0))


def _loud(call: Call, _: Generator) -> Call | None:
    """A loud channel behind the last, in which no expert has a weight."""
    x, weight = call.tensors["x"], call.tensors["weight"]
    size = 2.0**12 if x.dtype == torch.float16 else 2.0**24
    louder = torch.cat([x, x.new_full((len(x), 1), size)], dim=1)
    return call.with_tensors(
        x=louder, weight=torch.cat([weight, weight.new_zeros(len(weight), 1)], dim=1)
    )


def _doubled(call: Call, _: Generator) -> Call | None:
    """Every expert again, from the last to the first."""
    weight = call.tensors["weight"]
    return call.with_tensors(weight=torch.cat([weight, weight.flip(0)]))


def _twice(before: Values, after: Values, call: Call) -> bool:
    again = torch.cat([before["logits"], before["logits"].flip(1)], dim=1)
    return _close({"logits": again}, after, call)


RELATIONS = {
    "loud": Relation("a loud channel that no expert reads", "invariance", _loud, _close),
    "doubled": Relation("every expert twice", "identities", _doubled, _twice),
    "shuffled": Relation("channels in another order", "invariance", _shuffled, _close),
    "padded": Relation("channels with a weight of 0 behind the last", "identities", _padded,
                       _close),
}  # fmt: skip


def _channels(call: Call, rank: int, ranks: int) -> Call:
    D = call.tensors["x"].shape[1]
    part = slice(D * rank // ranks, D * (rank + 1) // ranks)
    if part.start == part.stop:  # a rank without channels has zeros
        return call.with_tensors(x=torch.zeros_like(call.tensors["x"]))
    return call.with_tensors(**{n: x[:, part] for n, x in call.tensors.items()})


SPLITS = {"channels": Split("channels shared out", _channels)}


# -- cases -----------------------------------------------------------------------------------


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    small, is_exact = cost == "interpreted", law == "exact"
    least = 2 if law in ("permutation", "determinism") else 1
    counts: Any = (range(least, 18), _matrices.MANY, (31, 32, 33))
    T = pick(pick(((0, 1), *counts) if law == "authority" else counts))
    D = pick(pick((_matrices.DIMS, LONG)))
    E = 256 if law == "identities" and pick((0, 0, 1)) else pick(EXPERTS)
    if small:
        T, D, E = min(T, 33), min(D, 129), min(E, 33)
    families = values.EXACT if is_exact else FAMILIES
    traits = {"values": pick(families), "layout": _matrices.layout(pick, law)}
    axes = {"T": T, "D": D, "E": E}
    return Case("moe_logits", dtype, axes, traits, frozenset(), None, 0, pick(range(0x10000)), law)


INPUTS = (TensorSpec("x", "TD", "input"), TensorSpec("weight", "ED", "input"))
OUTPUTS = (TensorSpec("logits", "TE", "state"),)
ANALYSIS = Analysis(moe_logits, INPUTS, OUTPUTS)
LINEAR = (Group(("x",), ("logits",)), Group(("weight",), ("logits",)))

MOE_LOGITS = Contract(
    op="moe_logits",
    summary="what the router scores experts by: a product in float32, not rounded",
    signature="(x[T,D], weight[E,D]) -> logits[T,E] float32",
    inputs=INPUTS,
    params={},
    outputs=OUTPUTS,
    positional=("x", "weight"),
    mutable=frozenset(),
    axes={"T": (0, 65), "D": (1, 1030), "E": (1, 256)},
    traits={"values": FAMILIES, "layout": _matrices.LAYOUTS},
    flags=(),
    algebra=Algebra(
        independent=("T", "E"),
        homogeneous_in=LINEAR,
        linear_in=LINEAR,
        shardable=("T", "E"),
    ),
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite",
        "bitwise equality between implementations",
        "a direction in the roundings of sums: tensor cores cut them off",
    ),
    make=make,
    authority=ANALYSIS.authority,
    variants=ANALYSIS.variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "sharding", "invariance", "identities", "shapes", "scale",
    ),
    exact=exact,
    relations=RELATIONS,
    splits=SPLITS,
)  # fmt: skip
