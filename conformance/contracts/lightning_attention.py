"""The contract of lightning_attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import widened
from lingspec.conformance.accuracy.formats import FP16, of_dtype
from lingspec.conformance.accuracy.limits import Limits, limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import analysing, loaded
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Algebra, Contract, Group, TensorSpec
from lingspec.conformance.contracts._exact import exact_reads
from lingspec.conformance.contracts._lightning_cases import ONLY, WRT, draw
from lingspec.conformance.contracts._machines import Memories
from lingspec.reference import lightning_attention, rounding
from lingspec.reference.formulations.lightning_attention import (
    lightning_attention_backward,
    lightning_attention_backward_closed,
    lightning_attention_chunked,
    lightning_attention_closed,
)

__all__ = ["LIGHTNING_ATTENTION"]

DIFFERENTIABLE = ("q", "k", "v", "initial_state")
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
            given[name] = x.double() if name == "log_decay" else wrap(x)
    return given | call.params


def authority(call: Call, profile: Profile) -> dict[str, Limits]:
    """O and final_state in float64, with their limits."""
    given = _wide(call, lambda x: loaded(x, profile))
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
    given = _wide(call, lambda x: loaded(x, profile))
    given |= {n: loaded(x, profile) for n, x in _both(call).items()}
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
    given: dict[str, Any] = {**widened(call, profile), **call.params}
    token, state = call.tensors["q"].dtype, call.tensors["log_decay"].dtype
    for chunk, points in VARIANTS:
        with rounding(casting(profile, points)):
            if chunk is None:
                o, S = lightning_attention(**given)
            else:
                o, S = lightning_attention_chunked(**given, chunk=chunk)
        made.append({"o": o.to(token), "final_state": S.to(state)})
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
        independent=("B", "H", "V"),
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
        "sequences", "scale",
    ),
)  # fmt: skip
