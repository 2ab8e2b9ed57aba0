"""The contract of qk_norm_rope.

Letters: B batch, T tokens, H heads of q, G heads of k, K head dim, R rotary dims, F = R/2 pairs.
"""

from __future__ import annotations

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
from lingspec.conformance.contracts import _rope, _rows
from lingspec.reference import qk_norm_rope

__all__ = ["QK_NORM_ROPE"]


def make(case: Case) -> Call:
    """Queries and keys, a weight vector for each, and the table of where their tokens stand."""
    a = case.axes
    if a["R"] % 2 or a["R"] > a["K"]:
        raise CaseError(f"case {str(case)!r} has R = {a['R']}, but must have an even one up to K")
    g = values.rng(case.seed)
    wide = torch.float64 if case.dtype == "f64" else torch.float32
    tensors: dict[str, Tensor] = {}
    for turn, (name, heads) in enumerate((("q", a["H"]), ("k", a["G"]))):
        x = _rows.numbers(case, (a["B"], a["T"], heads, a["K"]), g, salt=turn)
        tensors[name] = values.laid_out(x.to(case.torch_dtype), values.layout_of(case, turn, 4))
    for name in ("q_weight", "k_weight"):
        tensors[name] = values.weights((a["K"],), g).to(case.torch_dtype)
    cos, sin = _rope.table(case, (a["B"], a["T"], a["R"] // 2), g)
    for turn, (name, part) in enumerate((("cos", cos), ("sin", sin)), 2):
        place = values.state_layout(values.layout_of(case, turn, 4))
        tensors[name] = values.laid_out(part.to(wide), place)
    eps = _rows.EPS[case.seed % len(_rows.EPS)]
    coherent = case.traits["values"] in values.COHERENT or case.traits["layout"] == "expanded"
    return Call(case.op, tensors, {"eps": eps}, coherent, far=values.far_ones(case, tensors))


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    axes = _rope.axes(pick, law, _rope.DIMS, small=cost == "interpreted")
    axes["G"] = pick((1, 2, 3)) if pick((False, True)) else axes["H"]
    if law in ("permutation", "sharding"):
        axes["G"] = max(axes["G"], 2)
    traits = {
        "values": _rows.family(pick, law), "places": _rope.places(pick, law),
        "table": _rope.tables(pick, law), "layout": _rope.layout(pick, law),
    }  # fmt: skip
    seed = pick(range(0x10000))
    return Case("qk_norm_rope", dtype, axes, traits, frozenset(), None, 0, seed, law)


def exact(call: Call, _: Profile) -> frozenset[str]:
    """Heads of one size and both signs, turned by quarters: weights in other places."""
    if not _rope.quarter_turns(call.tensors):
        return frozenset()
    eps = call.params["eps"]
    return frozenset(f"{n}_out" for n in "qk" if _rows.units(call.tensors[n], eps))


def _scaled(call: Call, g: Generator) -> Call | None:
    return _rows.scaled(call, ("q", "k"), g)


def _stays(before: Values, after: Values, _: Call) -> bool:
    return all(torch.allclose(before[n], after[n], rtol=1e-9) for n in ("q_out", "k_out"))


def _swapped(call: Call, _: Generator) -> Call | None:
    t = call.tensors
    return call.with_tensors(q=t["k"], k=t["q"], q_weight=t["k_weight"], k_weight=t["q_weight"])


def _are_swapped(before: Values, after: Values, _: Call) -> bool:
    pairs = (("q_out", "k_out"), ("k_out", "q_out"))
    return all(torch.allclose(before[a], after[b], rtol=1e-12) for a, b in pairs)


def _doubled(call: Call, _: Generator) -> Call | None:
    return call.with_tensors(**_rope.doubled(call.tensors))


def _doubles(before: Values, after: Values, call: Call) -> bool:
    R = 2 * call.tensors["cos"].shape[-1]
    pairs = [(before[n], after[n]) for n in ("q_out", "k_out")]
    turned = all(torch.allclose(2 * a[..., :R], b[..., :R]) for a, b in pairs)
    return turned and all(torch.equal(a[..., R:], b[..., R:]) for a, b in pairs)


INPUTS = (
    TensorSpec("q", "BTHK", "input"),
    TensorSpec("k", "BTGK", "input"),
    TensorSpec("q_weight", "K", "input"),
    TensorSpec("k_weight", "K", "input"),
    TensorSpec("cos", "BTF", "state"),
    TensorSpec("sin", "BTF", "state"),
)
OUTPUTS = (TensorSpec("q_out", "BTHK", "input"), TensorSpec("k_out", "BTGK", "input"))
ANALYSIS = Analysis(qk_norm_rope, INPUTS, OUTPUTS)
LINEAR = (Group(("q_weight",), ("q_out",)), Group(("k_weight",), ("k_out",)))

QK_NORM_ROPE = Contract(
    op="qk_norm_rope",
    summary="every head of q and k normalised and weighed, then its first dims rotated",
    signature="(q[B,T,H,K], k[B,T,H,K], q_weight[K], k_weight[K], cos[B,T,R/2], sin[B,T,R/2], *, "
    "eps) -> (q, k)",
    inputs=INPUTS,
    params={"eps": "> 0"},
    outputs=OUTPUTS,
    positional=("q", "k", "q_weight", "k_weight", "cos", "sin"),
    mutable=frozenset(),
    axes={
        "B": (0, 3), "T": (0, 129), "H": (1, 5), "G": (1, 5), "K": (2, 128), "R": (2, 128),
    },
    traits={
        "values": _rows.FAMILIES, "places": _rope.PLACES, "table": _rope.TABLES,
        "layout": _rope.LAYOUTS,
    },
    flags=(),
    algebra=Algebra(
        independent=("B", "T", "H", "G"),
        homogeneous_in=LINEAR,
        linear_in=LINEAR,
        shardable=("H", "G"),
        unbiased=("q_out", "k_out"),
    ),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite, or whose sum of squares overflows float32",
        "eps <= 0, R = 0",
        "weights that are not contiguous",
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
    relations={
        "scaled": Relation("heads times 2^n, eps times 4^n", "invariance", _scaled, _stays),
        "swapped": Relation("queries and keys exchanged", "invariance", _swapped, _are_swapped),
        "doubled": Relation("a table twice as large", "identities", _doubled, _doubles),
    },
)  # fmt: skip
