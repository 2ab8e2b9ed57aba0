"""The contract of lightning_attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.formats import FP16, of_dtype
from lingspec.conformance.accuracy.limits import Limits, limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import analysing, running
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Algebra, Contract, Group, Pick, TensorSpec
from lingspec.conformance.contracts._exact import exact_reads
from lingspec.conformance.contracts._machines import STEPS, Memories
from lingspec.reference import lightning_attention, rounding
from lingspec.reference.formulations.lightning_attention import (
    lightning_attention_backward,
    lightning_attention_backward_closed,
    lightning_attention_chunked,
    lightning_attention_closed,
)

__all__ = ["LIGHTNING_ATTENTION"]

DIFFERENTIABLE = ("q", "k", "v", "initial_state")
# Of gradients: the result that alone is used, the input that alone is trained.
ONLY = ("only-o", "only-final_state")
WRT = ("wrt-q", "wrt-k", "wrt-v", "wrt-initial_state")
CLOSED_UP_TO = 1100  # tokens for which the O(T^2) form is affordable; beyond, chunks of it


def make(case: Case) -> Call:
    """The tensors of ``case``."""
    a, family = case.axes, case.traits["values"]
    lengths = case.lengths
    B, T = (1, sum(lengths)) if lengths is not None else (a["B"], a["T"])
    H, K, V = a["H"], a["K"], a["V"]
    g = values.rng(case.seed)
    exact = case.law == "exact"
    dtype = case.torch_dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tame = dtype == torch.float16 and not exact
    layout = case.traits["layout"]

    tensors: dict[str, Tensor] = {}
    for salt, (name, D) in enumerate((("q", K), ("k", K), ("v", V))):
        x = values.tokens(family, (B, T, H, D), g, salt=salt, tame=tame)
        tensors[name] = values.laid_out(x.to(dtype), values.layout_of(case, salt))
    tensors["log_decay"] = values.decays(case.traits["decay"], H, g, dtype).to(wide)
    N = len(lengths) if lengths is not None else B
    if "state" in case.flags:
        kind = family if exact else "normal"
        S = values.tokens(kind, (N, H, K, V), g, salt=3)
        tensors["initial_state"] = values.laid_out(S.to(wide), values.state_layout(layout))
    if lengths is not None:
        ends = torch.tensor([sum(lengths[:n]) for n in range(N + 1)])
        tensors["cu_seqlens"] = ends.to(torch.int32 if case.seed % 2 else torch.int64)
    scale = values.power_of_two(g) if exact else values.unit_scale(K, g, tame=tame)
    return Call(
        case.op, tensors, {"scale": scale}, coherent=family in values.COHERENT,
        far=values.far_ones(case, tensors),
        cotangents=_cotangents(case, (B, T, H, K, V, N), wide) if case.law == "gradients" else {},
        wrt=tuple(n for n in DIFFERENTIABLE if n in tensors and _wanted(case, n)),
    )  # fmt: skip


def _wanted(case: Case, name: str) -> bool:
    return case.flags.isdisjoint(WRT) or f"wrt-{name}" in case.flags


def _cotangents(case: Case, sizes: tuple[int, ...], wide: torch.dtype) -> dict[str, Tensor]:
    B, T, H, K, V, N = sizes
    g = values.rng(case.seed, "cotangents")
    do = torch.randn(B, T, H, V, generator=g, dtype=torch.float64)
    # every third is what o.sum(-1) sends back: one number per row, expanded
    if case.seed % 3 == 0 and do.numel():
        do = do[..., :1]
    dS = torch.randn(N, H, K, V, generator=g, dtype=torch.float64)
    do = do.to(case.torch_dtype).expand(B, T, H, V)
    do = do if case.seed % 3 == 0 else values.laid_out(do, "headfirst")
    memory = ("dense", "headfirst", "transposed", "dense")[case.seed % 4]
    dS = values.laid_out(dS.to(wide), memory)
    if case.seed % 4 == 3 and dS.numel():  # what final_state.sum(-1) sends back
        dS = dS[..., :1].expand(N, H, K, V)
    made = {"do": do, "dfinal_state": dS}
    alone = case.flags & set(ONLY)
    return {n: x for n, x in made.items() if not alone or f"only-{n[1:]}" in alone}


def _wide(call: Call, wrap: Callable[[Tensor], Any]) -> dict[str, Any]:
    """The arguments in float64, those that errors come from wrapped."""
    given: dict[str, Any] = {}
    for name, x in call.tensors.items():
        if name == "cu_seqlens":
            given[name] = x
        else:
            given[name] = x.double() if name == "log_decay" else wrap(x.double())
    return given | call.params


def authority(call: Call, profile: Profile) -> dict[str, Limits]:
    """O and final_state in float64, with their limits."""
    given = _wide(call, lambda x: running(x, profile))
    with rounding(analysing(profile)):
        forms = [form(**given) for form in _forms(call, profile)]
    outputs = (of_dtype(call.tensors["q"].dtype), of_dtype(call.tensors["log_decay"].dtype))
    return {
        name: limits(name, [f[n] for f in forms], profile, outputs[n], coherent=call.coherent,
                     heads=2 - n)
        for n, name in enumerate(("o", "final_state"))
    }  # fmt: skip


def _forms(call: Call, profile: Profile) -> list[Callable[..., Any]]:
    def chunked(into: str) -> Callable[..., Any]:
        return lambda **x: lightning_attention_chunked(**x, chunk=1024, into=into)

    short = call.tensors["q"].shape[1] <= CLOSED_UP_TO
    forms = [lightning_attention, lightning_attention_closed if short else chunked("k")]
    # What underflows in float16 depends on which operand carries the decay: 2^-24 |v| or 2^-24 |k|.
    return [*forms, chunked("v")] if FP16 in profile.points.values() else forms


def gradients(call: Call, profile: Profile) -> dict[str, Limits]:
    """The gradients in float64, with their limits; a result without a cotangent is not used."""
    given = _wide(call, lambda x: running(x, profile))
    given |= {n: running(x.double(), profile) for n, x in _both(call).items()}
    # What underflows in float16 depends, as in the forward pass, on which operands carry the decay.
    folded = (("q",), ("q", "k"), ("do", "v")) if FP16 in profile.points.values() else (("q",),)
    with rounding(analysing(profile)):
        forms = [
            lightning_attention_backward(**given),
            *(lightning_attention_backward_closed(**given, into=into) for into in folded),
        ]
    token, state = of_dtype(call.tensors["q"].dtype), of_dtype(call.tensors["log_decay"].dtype)
    return {
        f"d{name}": limits(f"d{name}", [f[n] for f in forms], profile, token if n < 3 else state,
                           coherent=call.coherent, heads=2 if n < 3 else 1)
        for n, name in enumerate(DIFFERENTIABLE) if name in call.wrt
    }  # fmt: skip


def _both(call: Call) -> dict[str, Tensor]:
    """The cotangents, 0 where there is none."""
    t = call.tensors
    v, (B, _, H, K) = t["v"], t["q"].shape
    N = t["cu_seqlens"].numel() - 1 if "cu_seqlens" in t else B
    dS = torch.zeros(N, H, K, v.shape[-1], dtype=t["log_decay"].dtype)
    return {"do": torch.zeros_like(v), "dfinal_state": dS, **call.cotangents}


# Chunk sizes that implementations do not use, and which of the permitted roundings are taken.
VARIANTS: tuple[tuple[int | None, tuple[str, ...] | None], ...] = (
    (None, ()), (None, None), (12, ("scores", "state_read")), (24, None), (40, None),
    (56, ("k", "v", "scores")), (100, None), (300, None),
)  # fmt: skip


def variants(call: Call, profile: Profile) -> list[dict[str, Tensor]]:
    """What emulated honest implementations return."""
    made = []
    for chunk, points in VARIANTS:
        given: dict[str, Any] = {**call.tensors, **call.params}
        with rounding(casting(profile, points)):
            if chunk is None:
                o, state = lightning_attention(**given)
            else:
                o, state = lightning_attention_chunked(**given, chunk=chunk)
        made.append({"o": o, "final_state": state})
    return made


def gradient_variants(call: Call, profile: Profile) -> list[dict[str, Tensor]]:
    """The gradients that emulated honest implementations return."""
    made = []
    given: dict[str, Any] = {**call.tensors, **call.params, **_both(call)}
    for backward in (lightning_attention_backward, lightning_attention_backward_closed):
        for points in ((), None):
            with rounding(casting(profile, points)):
                found = backward(**given)
            made.append({f"d{n}": x for n, x in zip(DIFFERENTIABLE, found, strict=True)})
    return made


# -- cases -----------------------------------------------------------------------------------

EDGES = (15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 66, 70, 95, 96, 127, 128, 129, 130)
LONGER = (191, 192, 193, 200, 255, 256, 257, 300)
LAYOUTS = ("dense", "dense", "dense", "fused", "padded")
DIMS = (8, 16, 24, 32, 40, 48, 64, 80, 96)
INDEPENDENT = tuple(f for f in values.FAMILIES if f not in values.COHERENT)
WRITTEN = 1 << 20  # elements of memory, over all tokens: about 0.25 s of the recurrence with errors


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    exact, small = law == "exact", cost == "interpreted"
    layout = pick((*values.LAYOUTS[1:], "far") if law == "strides" else LAYOUTS)
    lengths, axes = _tokens(pick, law, small, layout)
    axes |= _dims(pick, law, small)
    integers = values.EXACT[:1] if dtype == "f16" else values.OFTEN_EXACT
    families = INDEPENDENT if law == "bias" else values.FAMILIES[:-2]
    family = pick(integers if exact else families)
    decay = "exactly" if exact else pick(values.DECAYS[:-1])
    kept = law == "gradients" or axes.get("T") == 0  # a call without tokens must keep its state
    often = (False, True, True, True) if kept else (False, True)
    flags = frozenset({"state"} if pick(often) else ())
    if pick(range(8)) == 7:  # more of something than most cases have
        lengths, axes = _many(pick, law, small)
        decay = "exactly" if exact else pick(("slopes", "slow", "mild", "none"))
    elif lengths is None and pick(range(6)) == 5:  # long memory
        most = 24 if small else 40
        axes |= {"B": 1, "T": pick(LONGER), "H": min(axes["H"], 2)}
        axes |= {"K": min(axes["K"], most), "V": min(axes["V"], most)}
        decay = "exactly" if exact else pick(("slopes", "slow", "mild", "none"))
    if layout == "far" and lengths is None and axes["B"] and axes["T"] <= 130:
        axes["B"] = max(axes["B"], 3)
    cut = pick(range(131)) if law in ("causality", "handover") else 0
    cut = pick(STEPS) if law == "sequences" else cut
    traits = {"decay": decay, "values": family, "layout": layout}
    if law == "gradients":
        alone = (*WRT, WRT[3]) if "state" in flags else WRT[:3]
        flags |= {pick(("",) * 6 + ONLY), pick(("",) * 5 + alone)} - {""}
    axes = _affordable(axes, law, lengths)
    axes = {letter: axes[letter] for letter in "BTHKV" if letter in axes}
    seed = pick(range(0x10000))
    return Case("lightning_attention", dtype, axes, traits, flags, lengths, cut, seed, law)


def _many(pick: Pick, law: str, small: bool) -> tuple[tuple[int, ...] | None, dict[str, int]]:
    """Heads, sequences, tokens or batch rows in numbers that no small case has."""
    sizes = {"K": pick(DIMS[:3]), "V": pick(DIMS[:3])}
    kinds = {
        "packed": ("sequences",), "permutation": ("heads", "rows"), "sharding": ("heads",),
    }  # fmt: skip
    kind = pick(kinds.get(law, ("tokens", "heads", "sequences", "rows")))
    if kind == "sequences":
        count = pick((9, 17) if small else (9, 17, 33))
        return tuple(pick(range(1, 4)) * (n % 3 != 1) for n in range(count)), sizes | {"H": 1}
    if kind == "tokens":
        T = pick((321, 513) if small else (513, 777, 1025))
        return None, sizes | {"B": 1, "T": T, "H": 1}
    if kind == "heads":
        return None, sizes | {
            "B": 1,
            "T": pick((2, 5)),
            "H": pick((17, 40) if small else (17, 40, 64)),
        }
    return None, sizes | {"B": pick((9, 17)), "T": pick((2, 5)), "H": 1 + (law == "permutation")}


def _affordable(axes: dict[str, int], law: str, lengths: tuple[int, ...] | None) -> dict[str, int]:
    """Fewer sequences, then fewer heads, where the authority would write too much memory."""
    B, T, H = axes.get("B", 1), axes.get("T", sum(lengths or ())), axes["H"]
    most = max(1, WRITTEN // (max(T, 1) * axes["K"] * axes["V"]))  # of B H
    B = min(B, max(most // H, 2 if law in ("permutation", "determinism") else 1))
    H = min(H, max(most // max(B, 1), 2 if law in ("permutation", "sharding") else 1))
    return axes | {"H": H} | ({"B": B} if lengths is None else {})


def _tokens(
    pick: Pick, law: str, small: bool, layout: str
) -> tuple[tuple[int, ...] | None, dict[str, int]]:
    """Lengths of packed sequences, or B and T."""
    optional = law not in ("packed", "permutation") and layout != "far"
    if law == "packed" or (optional and pick((False, False, True))):
        count = pick((*range(1, 4 if small else 6), *((0,) if law == "authority" else ())))
        kinds = ((1, 0, 0), range(13), EDGES[:12])
        lengths = tuple(pick(pick(kinds)) for _ in range(count))
        if law == "causality" and sum(lengths) < 2:  # one token has no later one
            lengths = (*lengths, 2)
        if law == "exact":  # sums that the narrow format does not hold
            lengths = (*lengths, pick(EDGES))
        return lengths, {}
    batches: tuple[int, ...] = (1, 2, 1, 2, 1, 2) if small else (1, 2, 3, 1, 2, 3)
    if law not in ("permutation", "determinism", "causality"):  # which compare members
        batches = (*batches, 0)
    floor = {"causality": 2, "handover": 2, "authority": 0}.get(law, 1)
    edges = EDGES if small else EDGES + LONGER
    # Integers that 8 bits do not hold need tokens, and so does a past of more than one chunk.
    many = (edges,) * {"exact": 5, "causality": 4}.get(law, 2)
    none = ((0,),) if floor == 0 else ()
    return None, {
        "B": pick(batches),
        "T": pick(pick((range(floor, 21), (max(floor, 1), 2), *many, *none))),
    }


def _dims(pick: Pick, law: str, small: bool) -> dict[str, int]:
    """H, K and V: distinct, seldom powers of two, now and then the model's own."""
    heads = (1, 2, 3) if small else (1, 2, 3, 4, 5, 6)
    H = pick(heads[1:] if law in ("permutation", "sharding") else heads)
    dims = DIMS[:7] if small else DIMS
    K = pick(dims[3:7] if law == "exact" else dims)
    V = K if pick((False, False, False, True)) else pick(dims)
    if pick(range(10)) == 9:
        K, V = pick(((64, 64), (128, 128), (128, 96), (96, 128)))
        H = min(H, 2)
    return {"H": H, "K": K, "V": V}


LINEAR = (
    Group(("q",), ("o",)),
    Group(("k", "initial_state"), ("o", "final_state")),
    Group(("v", "initial_state"), ("o", "final_state")),
)

LIGHTNING_ATTENTION = Contract(
    op="lightning_attention",
    summary="read a decaying key-value memory, one token at a time",
    signature="(q[B,T,H,K], k[B,T,H,K], v[B,T,H,V], log_decay[H], *, scale, "
    "initial_state=None [N,H,K,V], cu_seqlens=None) -> (o[B,T,H,V], final_state[N,H,K,V])",
    inputs=(
        TensorSpec("q", "BTHK", "input"),
        TensorSpec("k", "BTHK", "input"),
        TensorSpec("v", "BTHV", "input"),
        TensorSpec("log_decay", "H", "state"),
        TensorSpec("initial_state", "NHKV", "state", optional=True),
        TensorSpec("cu_seqlens", "", "index", optional=True, means="ends", within="T"),
    ),
    params={"scale": "a number"},
    outputs=(TensorSpec("o", "BTHV", "input"), TensorSpec("final_state", "NHKV", "state")),
    positional=("q", "k", "v", "log_decay"),
    mutable=frozenset(),
    axes={"B": (0, 17), "T": (0, 1025), "H": (1, 64), "K": (8, 128), "V": (8, 128)},
    traits={"decay": values.DECAYS, "values": values.FAMILIES, "layout": values.LAYOUTS},
    flags=("state", *ONLY, *WRT),
    algebra=Algebra(
        causal="T",
        stateful="T",
        state=(("initial_state", "final_state"),),
        packed="T",
        ends={"T": "cu_seqlens"},
        independent=("B", "H"),
        homogeneous_in=LINEAR,
        linear_in=LINEAR,
        differentiable_in=DIFFERENTIABLE,
        shardable=("H",),
        unbiased=("o",),
    ),
    exact=exact_reads,
    machine=Memories,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite",
        "log_decay > 0 or -inf, scale <= 0",
        "K or V that is not a multiple of 8",
        "log_decay or cu_seqlens that are not contiguous",
        "bitwise equality between implementations, outside exact mode",
        "gradients with respect to log_decay and scale",
    ),
    make=make,
    authority=authority,
    gradients=gradients,
    variants=variants,
    gradient_variants=gradient_variants,
    draw=draw,
    laws=(
        "authority", "causality", "handover", "packed", "permutation", "homogeneity", "additivity",
        "determinism", "untouched", "strides", "exact", "gradients", "sharding", "bias", "shapes",
        "sequences",
    ),
)  # fmt: skip
