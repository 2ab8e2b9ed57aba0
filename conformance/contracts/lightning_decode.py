"""The contract of lightning_decode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import widened
from lingspec.conformance.accuracy.formats import of_dtype
from lingspec.conformance.accuracy.limits import ANYTHING, Limits, limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import analysing, loaded
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.case import Call, Case, CaseError
from lingspec.conformance.contract import Algebra, Contract, Group, Pick, TensorSpec
from lingspec.conformance.contracts._exact import exact_reads
from lingspec.conformance.contracts._machines import STEPS, Pool
from lingspec.reference import lightning_decode, rounding
from lingspec.reference.ops.lightning_decode import step

__all__ = ["LIGHTNING_DECODE"]


def make(case: Case) -> Call:
    """The tensors of ``case``: a pool larger than the batch, slots in any order, some padding."""
    a, family = case.axes, case.traits["values"]
    B, H, K, V, P = (a[x] for x in "BHKVP")
    if P < B:
        raise CaseError(f"case {str(case)!r} has P = {P}, but must have a slot for each of B = {B}")
    g = values.rng(case.seed)
    dtype, exact = case.torch_dtype, case.law == "exact"
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tame = dtype == torch.float16 and not exact
    tensors: dict[str, Tensor] = {}
    for salt, (name, D) in enumerate((("q", K), ("k", K), ("v", V))):
        x = values.tokens(family, (B, H, D), g, salt=salt, tame=tame)
        tensors[name] = values.laid_out(x.to(dtype), values.layout_of(case, salt))
    tensors["log_decay"] = values.decays(case.traits["decay"], H, g, dtype).to(wide)
    kind = family if exact else "normal"
    pool = values.tokens(kind, (P, H, K, V), g, salt=3).to(wide)
    tensors["state_pool"] = values.laid_out(pool, values.state_layout(case.traits["layout"]))
    slots = torch.randperm(P, generator=g)[:B]
    if "padding" in case.flags and B:
        slots[torch.randperm(B, generator=g)[: (B + 2) // 3]] = -1
    live = (slots >= 0).nonzero().flatten()
    if case.traits["layout"] == "far" and live.numel():  # the row that lies furthest
        slots[slots == P - 1] = slots[live[-1]].clone()
        slots[live[-1]] = P - 1
    tensors["slots"] = slots.to(torch.int32 if case.seed % 2 else torch.int64)
    scale = values.power_of_two(g) if exact else values.unit_scale(K, g, tame=tame)
    coherent = family in values.COHERENT
    return Call(case.op, tensors, {"scale": scale}, coherent, far=values.far_ones(case, tensors))


def authority(call: Call, profile: Profile) -> dict[str, Limits]:
    """o, and the whole pool: rows that no slot names have no room at all."""
    t = call.tensors
    slots = t["slots"].long()
    live = slots >= 0
    q, k, v = (_carrying(t[n][live], profile) for n in "qkv")
    pool = t["state_pool"].double()
    with rounding(analysing(profile)):
        S = _carrying(t["state_pool"][slots[live]], profile)
        o, S = step(q, k, v, t["log_decay"].double(), call.params["scale"], S)
    output, state = of_dtype(t["q"].dtype), of_dtype(t["state_pool"].dtype)
    now = limits("state_pool", [S], profile, state, coherent=call.coherent, heads=1)
    read = limits("o", [o], profile, output, coherent=call.coherent, heads=1)
    return {
        # a padding row may hold any finite number
        "o": read.placed(torch.zeros(t["v"].shape, dtype=torch.float64), live, ANYTHING),
        "state_pool": now.placed(pool, slots[live], 0.0),
    }


def _carrying(x: Tensor, profile: Profile) -> Any:
    """``x`` as a number with errors; the reference takes it for a tensor."""
    return loaded(x, profile)


def variants(call: Call, profile: Profile) -> list[dict[str, Tensor]]:
    """Without any permitted rounding, and with all."""
    made = []
    t = call.tensors
    live = t["slots"][t["slots"] >= 0].long()
    for points in ((), None):
        given: dict[str, Any] = widened(call, profile) | call.params
        given["state_pool"] = given["state_pool"].clone()
        with rounding(casting(profile, points)):
            o = lightning_decode(**given)
        pool = t["state_pool"].clone()
        pool[live] = given["state_pool"][live].to(pool.dtype)  # no other row is touched
        made.append({"o": o.to(t["q"].dtype), "state_pool": pool})
    return made


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    small, exact = cost == "interpreted", law == "exact"
    heads = (1, 2, 3) if small else (1, 2, 3, 4, 5, 6)
    least = 2 if law in ("permutation", "determinism") else (0 if law == "authority" else 1)
    B = pick(range(least, 6 if small else 10))
    axes = {
        "B": B,
        "H": pick(heads[1:] if law in ("permutation", "sharding") else heads),
        "K": pick(DIMS),
        "V": pick(DIMS),
        "P": B + pick(range(5)),
    }
    if pick(range(10)) == 9:  # the model's own sizes
        axes |= {"K": 128, "V": 128, "H": min(axes["H"], 2), "B": min(B, 3)}
    elif law == "authority" and pick(range(6)) == 5:  # enough sequences for a mean to be one
        B = 64 if small else 256
        axes |= {
            "B": B,
            "P": B + 2,
            "H": min(axes["H"], 2),
            "K": pick(DIMS[:4]),
            "V": pick(DIMS[:4]),
        }
    layouts = (*LAYOUTS[1:], "far") if law == "strides" else ("dense", "dense", "dense", "fused")
    integers = values.EXACT[:1] if dtype == "f16" else values.OFTEN_EXACT
    traits = {
        "decay": "exactly" if exact else pick(values.DECAYS[:-1]),
        "values": pick(integers if exact else INDEPENDENT if law == "bias" else FAMILIES[:-2]),
        "layout": pick(layouts),
    }
    flags = frozenset({"padding"} if pick((False, True)) else ())
    seed = pick(range(0x10000))
    cut = pick(STEPS) if law == "sequences" else 0
    return Case("lightning_decode", dtype, axes, traits, flags, None, cut, seed, law)


DIMS = (8, 16, 24, 40, 48, 64, 80, 96)
FAMILIES = ("normal", "small", "positive", "heavy", "mixed", "zeros", "onehot", *values.EXACT)
INDEPENDENT = tuple(f for f in FAMILIES if f not in values.COHERENT)
LAYOUTS = values.LAYOUTS

LINEAR = (
    Group(("q",), ("o",)),
    Group(("k", "state_pool"), ("o", "state_pool")),
    Group(("v", "state_pool"), ("o", "state_pool")),
)

LIGHTNING_DECODE = Contract(
    op="lightning_decode",
    summary="one token of Lightning attention for each of B sequences, memories in a pool",
    signature="(q[B,H,K], k[B,H,K], v[B,H,V], log_decay[H], state_pool[P,H,K,V], slots[B], *, "
    "scale) -> o[B,H,V]; state_pool is updated in place",
    inputs=(
        TensorSpec("q", "BHK", "input"),
        TensorSpec("k", "BHK", "input"),
        TensorSpec("v", "BHV", "input"),
        TensorSpec("log_decay", "H", "state"),
        TensorSpec("state_pool", "PHKV", "state"),
        TensorSpec("slots", "B", "index", means="slots", within="P"),
    ),
    params={"scale": "a number"},
    outputs=(TensorSpec("o", "BHV", "input"),),
    positional=("q", "k", "v", "log_decay", "state_pool", "slots"),
    mutable=frozenset({"state_pool"}),
    axes={"B": (0, 256), "H": (1, 6), "K": (8, 128), "V": (8, 128), "P": (0, 258)},
    traits={"decay": values.DECAYS, "values": FAMILIES, "layout": LAYOUTS},
    flags=("padding",),
    algebra=Algebra(
        independent=("B", "H", "V"),
        homogeneous_in=LINEAR,
        linear_in=LINEAR,
        shardable=("H",),
        unbiased=("o",),
    ),
    exact=exact_reads,
    machine=Pool,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite",
        "slots that repeat or are out of range",
        "log_decay > 0 or -inf, scale <= 0",
        "K or V that is not a multiple of 8",
        "log_decay or slots that are not contiguous",
        "the value of a padding row of o, if it is finite",
    ),
    make=make,
    authority=authority,
    variants=variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "sharding", "bias", "shapes", "sequences", "scale",
    ),
)  # fmt: skip
