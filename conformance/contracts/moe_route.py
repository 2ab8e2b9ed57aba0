"""The contract of moe_route: a choice, and the weights that follow from it.

Letters: T tokens, E experts, G groups, S top groups, C chosen experts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import widened
from lingspec.conformance.accuracy.choices import Following, routed, scored
from lingspec.conformance.accuracy.formats import of_dtype
from lingspec.conformance.accuracy.limits import Limits, limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import stored
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.case import Call, Case, CaseError
from lingspec.conformance.contract import (
    Algebra,
    Contract,
    Expectations,
    Pick,
    Relation,
    TensorSpec,
    Values,
)  # fmt: skip
from lingspec.reference import moe_route, rounding
from lingspec.reference.ops.moe_route import weighed

__all__ = ["MOE_ROUTE"]

FAMILIES = (
    "normal", "ties", "spread", "saturated", "favourite", "masked", "identical",
    "drowned",
)  # fmt: skip
BIASES = ("level", "raised", "lowered", "fine", "varied", "unbiased")


def make(case: Case) -> Call:
    """Logits of a kind, and biases of a kind."""
    a = case.axes
    E, G, S, k = a["E"], a["G"], a["S"], a["C"]
    if E % G or E // G < 2 or S > G or k > S * (E // G):
        raise CaseError(
            f"case {str(case)!r} must have groups of 2 experts or more, S up to G, and C up to "
            f"the experts of S groups"
        )
    g = values.rng(case.seed)
    logits = _logits(case.traits["logits"], (a["T"], E), g)
    bias = _bias(case.traits["bias"], E, g)
    dtype = case.torch_dtype
    x = values.laid_out(logits.to(dtype).unsqueeze(0), case.traits["layout"])[0]
    scaling = (2.5, 1.0, 16.0, 2.827)[case.seed % 4]
    if "nan" in case.flags and a["T"]:
        x = x.clone()
        x[case.seed % a["T"], case.seed % E] = torch.nan
    params = {"groups": G, "top_groups": S, "top_k": k, "scaling": scaling}
    tensors = {"logits": x, "bias": bias.to(dtype)}
    return Call(case.op, tensors, params, coherent=True, far=values.far_ones(case, {"logits": x}))


def _logits(kind: str, shape: tuple[int, int], g: Generator) -> Tensor:
    x = 2 * torch.randn(shape, generator=g, dtype=torch.float64)
    if kind == "ties":  # few levels, as 16-bit logits have
        return (2 * x).round() / 2
    if kind == "spread":
        return 8 * x
    if kind == "saturated":  # sigmoids of 1e-8 and of 1 - 1e-8; exponentials that overflow
        size = torch.tensor([18.0, 120.0], dtype=x.dtype).repeat(shape[0])[: shape[0], None]
        return size * x.sign() + x
    if kind == "drowned":  # scores beside 1e-20, and rows of which all are 0
        gone = torch.rand(shape[0], 1, generator=g) < 0.25
        return torch.where(gone, -200.0, x - 46.0)
    if kind == "favourite":
        return x + 12.0 * (torch.arange(shape[1]) % 5 == 1)
    if kind == "masked":  # experts that nobody may choose, and rows of them alone
        gone = torch.rand(shape, generator=g) < 0.25
        gone |= torch.rand(shape[0], 1, generator=g) < 0.1
        return x.masked_fill(gone, -torch.inf)
    return x[:, :1].expand(shape).clone() if kind == "identical" else x


def _bias(kind: str, E: int, g: Generator) -> Tensor:
    x = torch.randn(E, generator=g, dtype=torch.float64)
    at = {"level": 0.0, "raised": 12.0, "lowered": -10.0, "fine": 12.0}.get(kind, 0.0)
    width = {"fine": 1e-3, "varied": 0.3, "unbiased": 0.0}.get(kind, 0.05)
    return at + width * x


def authority(call: Call, profile: Profile) -> Expectations:
    """The choices that errors inside the bounds may lead to; weights for the candidate's choice."""
    logits, bias = call.tensors["logits"], call.tensors["bias"]
    p = call.params
    free = ~(logits.isfinite() | (logits == -torch.inf)).all(dim=1)
    clean = logits.double().masked_fill(free[:, None], 0.0)
    wide = bias.double()
    _, experts = moe_route(clean, wide, **p)
    free |= (clean.gather(1, experts) == -torch.inf).any(dim=1)
    scores, biased = scored(stored(clean.to(logits.dtype), profile), stored(bias, profile))
    choice = routed(biased, experts, free, groups=p["groups"], top_groups=p["top_groups"])

    def given(chosen: Tensor) -> Limits | None:
        there = (chosen >= 0) & (chosen < clean.shape[1])
        if chosen.shape != experts.shape or not bool(there.all()):
            return None
        lines: Any = weighed  # of the reference, on running numbers
        made = lines(scores, chosen.long(), p["scaling"])
        return limits("weights", [made], profile, of_dtype(logits.dtype), coherent=True)

    own = given(experts)
    assert own is not None
    return {"weights": Following(own, "experts", given, ~free), "experts": choice}


def variants(call: Call, profile: Profile) -> list[dict[str, Any]]:
    """The reference in the dtype that the profile computes in, with its roundings."""
    with rounding(casting(profile)):
        given: dict[str, Any] = {**widened(call, profile), **call.params}
        weights, experts = moe_route(**given)
    return [{"weights": weights.to(call.tensors["logits"].dtype), "experts": experts}]


# -- relations -------------------------------------------------------------------------------


def _sets(values: Values) -> Tensor:
    return values["experts"].sort(dim=-1).values


def _weight_of_each(values: Values) -> Tensor:
    order = values["experts"].argsort(dim=-1)
    return values["weights"].gather(1, order)


def _same(before: Values, after: Values, _: Call) -> bool:
    close = torch.allclose(_weight_of_each(before), _weight_of_each(after), rtol=1e-9)
    return close and torch.equal(_sets(before), _sets(after))


def _raised(call: Call, g: Generator) -> Call | None:
    by = (12.0, -10.0, 1.0)[int(torch.randint(0, 3, (1,), generator=g))]
    return call.with_tensors(bias=call.tensors["bias"] + by)


def _renamed(call: Call, _: Generator) -> Call | None:
    """Every expert's place counted from the end: groups in reverse, and experts inside them."""
    return call.with_tensors(**{n: x.flip(-1) for n, x in call.tensors.items()})


def _renamed_back(before: Values, after: Values, call: Call) -> bool:
    last = call.tensors["bias"].numel() - 1
    return _same(before, {**after, "experts": last - after["experts"]}, call)


def _ungrouped(call: Call, _: Generator) -> Call | None:
    if call.params["groups"] == 1 or call.params["top_groups"] < call.params["groups"]:
        return None
    return replace(call, params={**call.params, "groups": 1, "top_groups": 1})


def _doubled(call: Call, _: Generator) -> Call | None:
    return replace(call, params={**call.params, "scaling": 2 * call.params["scaling"]})


def _doubles(before: Values, after: Values, call: Call) -> bool:
    return _same({**before, "weights": 2 * before["weights"]}, after, call)


RELATIONS = {
    "raised": Relation("the same added to all biases", "invariance", _raised, _same),
    "renamed": Relation("experts renamed from the end", "invariance", _renamed, _renamed_back),
    "ungrouped": Relation("all groups chosen is one group", "identities", _ungrouped, _same),
    "doubled": Relation("twice the scaling is twice the weights", "identities", _doubled, _doubles),
}


# -- cases -----------------------------------------------------------------------------------

# Experts, groups and top groups: the model's own, and others, of groups of two experts too.
SHAPES = (
    (8, 2, 1), (8, 4, 2), (12, 3, 2), (16, 8, 8), (16, 1, 1), (24, 4, 3), (64, 8, 4), (256, 8, 4),
    (10, 5, 1),
)  # fmt: skip


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then logits and biases."""
    small = cost == "interpreted"
    E, G, S = pick(SHAPES)
    E = min(E, 64) if small else E
    most = S * (E // G)
    k = min(pick((2, 1, 3, 4, 6, 8, most)), most)
    least = 2 if law in ("permutation", "determinism") else 1
    counts: tuple[Any, ...] = (range(least, 10), (31, 33, 64, 65))
    T = pick(pick(((0, 1), *counts) if law == "authority" else counts))
    if small:
        T, k = min(T, 17), min(k, 8)
    if law == "identities" and pick((False, True)):
        S = G
    traits = {
        "logits": pick(FAMILIES), "bias": pick(BIASES),
        "layout": pick(LAYOUTS[1:]) if law == "strides" else pick(("dense", "dense", "fused")),
    }  # fmt: skip
    flags = frozenset(
        {"nan"} if law in ("authority", "permutation") and pick(range(4)) == 3 else ()
    )
    axes = {"T": T, "E": E, "G": G, "S": S, "C": k}
    return Case("moe_route", dtype, axes, traits, flags, None, 0, pick(range(0x10000)), law)


LAYOUTS = ("dense", "fused", "padded", "stepped", "transposed")

MOE_ROUTE = Contract(
    op="moe_route",
    summary="the experts of each token and their weights, chosen inside the best groups",
    signature="(logits[T,E], bias[E], *, groups, top_groups, top_k, scaling) -> "
    "(weights[T,k] float32, experts[T,k] int64)",
    inputs=(TensorSpec("logits", "TE", "state"), TensorSpec("bias", "E", "state")),
    params={
        "groups": "a divisor of E", "top_groups": "up to groups",
        "top_k": "up to the experts of top_groups groups", "scaling": "a number",
    },
    outputs=(TensorSpec("weights", "TC", "state"), TensorSpec("experts", "TC", "index")),
    positional=("logits", "bias"),
    mutable=frozenset(),
    axes={"T": (0, 65), "E": (2, 256), "G": (1, 8), "S": (1, 8), "C": (1, 128)},
    traits={"logits": FAMILIES, "bias": BIASES, "layout": LAYOUTS},
    flags=("nan",),
    algebra=Algebra(independent=("T",)),
    profiles={"float64": NAMES, "float32": NAMES},
    silent_on=(
        "the order of a token's experts",
        "which of equal biased scores is chosen",
        "rows that must choose an expert whose logit is -inf, and logits of +inf",
        "the weights of such a row and of one with NaN, and which experts they get",
        "bias that is not contiguous",
    ),
    make=make,
    authority=authority,
    variants=variants,
    draw=draw,
    laws=(
        "authority", "permutation", "determinism", "untouched", "strides", "invariance",
        "identities", "shapes", "scale",
    ),
    relations=RELATIONS,
)  # fmt: skip
