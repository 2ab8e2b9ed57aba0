"""The contract of mla_attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.profiles import NAMES
from lingspec.conformance.accuracy.running import Running
from lingspec.conformance.case import Call, Case, CaseError
from lingspec.conformance.contract import Algebra, Contract, Group, Pick, TensorSpec
from lingspec.conformance.contracts import _queries, _softmax
from lingspec.conformance.contracts._mla_relations import RELATIONS, exact
from lingspec.conformance.contracts._softmax import AIMED, EXACT, RAMPS, SHIFTED
from lingspec.reference import mla_attention
from lingspec.reference.formulations.mla_attention import mla_attention_folded

__all__ = ["MLA_ATTENTION"]


def make(case: Case) -> Call:
    """The tensors of ``case``; packed sequences with ``prefix`` have keys before their queries."""
    a, family, g = case.axes, case.traits["values"], values.rng(case.seed)
    lengths, keys = case.lengths, _keys(case)
    B, T, S = (1, sum(lengths), sum(keys)) if lengths is not None else (a["B"], a["T"], a["S"])
    if S < T:
        raise CaseError(f"case {str(case)!r} has S = {S}, but must have T = {T} or more")
    spans = [(T, S)] if lengths is None else list(zip(lengths, keys, strict=True))
    H, K, V = a["H"], a["K"], a["V"]
    scale = _softmax.scale_of(K, g, case.law)
    q = _softmax.plain(family, (B, T, H, K), g, 0, scale)
    k = _softmax.plain(family, (B, S, H, K), g, 1, scale)
    v = _softmax.plain(family, (B, S, H, V), g, 2, scale)
    _arrange(family, q, k, spans, scale, g)
    if family == _softmax.FAINT and q.numel() and k.numel():
        less, gain = _softmax.faint(S, g, scale, case.torch_dtype)
        q[..., 0], k[..., 0] = 1.0, -less[:, None]
        v[:, less > 0] *= gain
    tensors = {
        name: values.laid_out(x.to(case.torch_dtype), values.layout_of(case, turn))
        for turn, (name, x) in enumerate((("q", q), ("k", k), ("v", v)))
    }
    far = values.far_ones(case, tensors)
    index = torch.int32 if case.seed % 2 else torch.int64
    if lengths is not None:
        tensors["cu_seqlens"] = _ends(lengths, index)
        if "prefix" in case.flags:
            of_keys = torch.int32 if case.seed % 4 < 2 else torch.int64
            tensors["cu_seqlens_k"] = _ends(keys, of_keys)
    return Call(case.op, tensors, {"scale": scale}, _softmax.coherent(family), far=far)


def _keys(case: Case) -> tuple[int, ...]:
    """How many keys each packed sequence has."""
    lengths = case.lengths or ()
    if "prefix" not in case.flags:
        return lengths
    g = values.rng(case.seed, "prefix")
    more = [PREFIXES[int(torch.randint(0, len(PREFIXES), (1,), generator=g))] for _ in lengths]
    return tuple(n + m for n, m in zip(lengths, more, strict=True))


def _ends(lengths: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.tensor([sum(lengths[:n]) for n in range(len(lengths) + 1)], dtype=dtype)


def _arrange(
    family: str, q: Tensor, k: Tensor, spans: list[tuple[int, int]], scale: float, g: Generator
) -> None:
    """Queries and keys of a family that speaks of keys by their places; in place."""
    if family == SHIFTED and q.numel():
        q[..., 0], k[..., 0] = _softmax.shifts(g, scale)
    at, at_k = 0, 0
    for T, S in spans:
        of_q, of_k = q[:, at : at + T], k[:, at_k : at_k + S]
        if family in RAMPS and S:
            of_k += _softmax.ramp(S, family, scale, k.shape[-1])[:, None]
            of_q *= 0.2
            of_q += 1.0
        if family in (*AIMED, EXACT) and T:
            newest = torch.arange(S - T, S)
            place = {"first": 0 * newest, "last": newest}.get(
                family, (torch.rand(T, generator=g) * (newest + 1)).long()
            )
            of_q *= 0.0 if family == EXACT else 0.2
            of_q += _softmax.aim(of_k[:, place], family, scale)
        at, at_k = at + T, at_k + S


# -- cases -----------------------------------------------------------------------------------

FEW = (1, 2, 3, 4, 5, 7, 8, 11, 13)
EDGES = (15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 66, 96, 100)
MANY = (127, 128, 129, 192, 193, 257)
LONG = (300, 511, 513, 1025)
PREFIXES = (0, 0, 1, 2, 5, 15, 16, 33, 64)  # keys before the queries of a packed sequence
DIMS = (16, 8, 24, 32, 40, 48, 64, 80, 96)
MOST = 1 << 15  # scores of one call, over batch and heads
SMALL = 1 << 13
LAYOUTS = ("dense", "dense", "dense", "fused", "padded", "headfirst")


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then scores."""
    small = cost == "interpreted"
    layout = pick((*values.LAYOUTS[1:], "far") if law == "strides" else LAYOUTS)
    H = pick((2, 3, 5) if law in ("permutation", "sharding") else (1, 2, 3, 5))
    K = pick(DIMS[2:] if law == "exact" else DIMS)
    V = K if pick((False, False, False, True)) else pick(DIMS)
    model = pick(range(10)) == 9  # the sizes of the model
    if model:
        H, K, V = min(H, 2), 192, 128
    flags: frozenset[str] = frozenset()
    lengths = None
    if law == "packed" or (law not in ("identities", "permutation", "bias") and layout != "far"
                           and pick((False, False, False, True))):  # fmt: skip
        lengths = _lengths(pick, law)
        flags = frozenset({"prefix"} if pick((False, True)) else ())
        axes = {"H": H, "K": K, "V": V}
    else:
        axes = _tokens(pick, law, small, layout) | {"H": H, "K": K, "V": V}
        axes = _affordable(axes, law, SMALL if small or model else MOST)
    traits = {"values": _family(pick, law), "layout": layout}
    if traits["values"] in _softmax.EXTREME:  # or errors of scores leave nothing of the weights
        axes["K"] = min(axes["K"], 24)
    if law == "bias":  # errors of a row are one error: many rows
        axes |= {"B": 3, "H": 5, "K": min(axes["K"], 16), "V": min(axes["V"], 32)}
    cut = pick(range(131)) if law == "causality" else 0
    seed = pick(range(0x10000))
    return Case("mla_attention", dtype, axes, traits, flags, lengths, cut, seed, law)


def _family(pick: Pick, law: str) -> str:
    if law == "exact":
        return EXACT
    often = ("normal",) if law == "authority" else ()
    choices: tuple[str, ...] = (*often, *_softmax.FAMILIES[:-1])
    if law == "bias":  # a key with nearly all of the mass is rounded back to itself
        choices = ("normal", "small")
    if law == "invariance":
        choices = (SHIFTED, SHIFTED, "normal", "peaked")
    return pick(choices)


def _lengths(pick: Pick, law: str) -> tuple[int, ...]:
    count = pick((*range(1, 6), 9, *((0,) if law == "authority" else ())))
    kinds: tuple[tuple[int, ...], ...] = ((1, 0), FEW, EDGES[:11])
    lengths = tuple(pick(pick(kinds)) for _ in range(count))
    return (*lengths, 2) if law == "causality" and sum(lengths) < 2 else lengths


def _tokens(pick: Pick, law: str, small: bool, layout: str) -> dict[str, int]:
    """B, T and S: a whole prompt, a later piece of one, or one token."""
    B = pick((1, 2, 3) if law != "permutation" else (2, 1, 3))
    kind = pick(("whole", "piece", "one", "whole", "piece"))
    if law == "authority" and pick(range(9)) == 8:
        kind = "none"
    if law == "bias":
        kind = "whole"
    if kind == "one" and law != "causality":
        longest = EDGES if small else (*EDGES, *MANY, *LONG)
        return {"B": B, "T": 1, "S": pick(pick((FEW, EDGES, longest)))}
    if kind == "none":
        B, T, S = pick(((1, 0, 0), (2, 0, 5), (0, 3, 4), (0, 0, 0), (3, 0, 1)))
        return {"B": B, "T": T, "S": S}
    many = EDGES if small else (*EDGES, *MANY)
    T = pick(EDGES[8:12]) if law == "bias" else pick(pick((FEW, EDGES, many)))
    T = max(T, 2) if law == "causality" or layout == "far" else T
    before = pick(pick((FEW, EDGES))) if kind == "piece" else 0
    return {"B": B, "T": T, "S": T + before}


def _affordable(axes: dict[str, int], law: str, most: int) -> dict[str, int]:
    """Fewer heads, then fewer batch rows, where there would be too many scores."""
    scores = max(1, axes["T"] * axes["S"])
    floor = 2 if law in ("permutation", "sharding") else 1
    H = max(floor, min(axes["H"], most // (scores * max(axes["B"], 1))))
    B = min(axes["B"], max(1, most // (scores * H)))
    return axes | {"B": B, "H": H}


INPUTS = (
    TensorSpec("q", "BTHK", "input"),
    TensorSpec("k", "BSHK", "input"),
    TensorSpec("v", "BSHV", "input"),
    TensorSpec("cu_seqlens", "", "index", optional=True, means="ends", within="T"),
    TensorSpec("cu_seqlens_k", "", "index", optional=True, means="ends", within="S"),
)
OUTPUTS = (TensorSpec("o", "BTHV", "input"), TensorSpec("lse", "BTH", "state"))


def analysed(q: Running, k: Running, v: Running, *, scale: float, **ends: Tensor) -> Any:
    """The reference, with queries that are rounded once for all keys."""
    parts = [_one(q[:, a], k[:, b], v[:, b], scale) for a, b in _spans(q, k, **ends)]
    o, lse = zip(*parts, strict=True)
    return torch.cat(o, dim=1), torch.cat(lse, dim=1)


def _spans(
    q: Running, k: Running, cu_seqlens: Tensor | None = None, cu_seqlens_k: Tensor | None = None
) -> list[tuple[slice, slice]]:
    if cu_seqlens is None:
        return [(slice(0, q.shape[1]), slice(0, k.shape[1]))]
    ends = cu_seqlens.tolist()
    ends_k = ends if cu_seqlens_k is None else cu_seqlens_k.tolist()
    edges = zip(ends, ends[1:], ends_k, ends_k[1:], strict=False)
    return [(slice(a, b), slice(c, d)) for a, b, c, d in edges] or [(slice(0, 0), slice(0, 0))]


def _one(q: Running, k: Running, v: Running, scale: float) -> tuple[Running, Running]:
    made: Any = mla_attention(q, k, v, scale=scale)  # type: ignore[arg-type]
    o, lse, by = (x.transpose(1, 2) for x in (*made, _queries.rounded(q, scale)))
    T, S = q.shape[1], k.shape[1]
    of_q, of_k, of_v = (x.value.transpose(1, 2) for x in (q, k, v))
    hidden = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
    scores = (scale * of_q @ of_k.mT).masked_fill(hidden, -torch.inf)
    o, lse = _queries.moved(o, lse, by, of_k[:, :, None], of_v[:, :, None], scores)
    return o.transpose(1, 2), lse.transpose(1, 2)


ATTENTION = _queries.Attention(mla_attention, analysed, mla_attention_folded, INPUTS, OUTPUTS)

MLA_ATTENTION = Contract(
    op="mla_attention",
    summary="causal softmax attention over expanded keys and values, aligned at the end",
    signature="(q[B,T,H,K], k[B,S,H,K], v[B,S,H,V], *, scale, cu_seqlens=None, "
    "cu_seqlens_k=None) -> (o[B,T,H,V], lse[B,T,H])",
    inputs=INPUTS,
    params={"scale": "a number"},
    outputs=OUTPUTS,
    positional=("q", "k", "v"),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 257), "S": (0, 1025), "H": (1, 5), "K": (8, 192), "V": (8, 128)},
    traits={"values": _softmax.FAMILIES, "layout": values.LAYOUTS},
    flags=("prefix",),
    algebra=Algebra(
        causal="T",
        aligned="S",
        packed="T",
        ends={"T": "cu_seqlens", "S": "cu_seqlens_k"},
        independent=("B", "H", "V"),
        homogeneous_in=(Group(("v",), ("o",)),),
        linear_in=(Group(("v",), ("o",)),),
        shardable=("H",),
        unbiased=("o",),
    ),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite",
        "fewer keys than queries in a sequence, scale <= 0",
        "K or V that is not a multiple of 8",
        "cu_seqlens or cu_seqlens_k that are not contiguous",
        "bitwise equality between implementations",
        "gradients",
    ),
    make=make,
    authority=ATTENTION.authority,
    variants=ATTENTION.variants,
    draw=draw,
    laws=(
        "authority", "causality", "packed", "permutation", "homogeneity", "additivity",
        "determinism", "untouched", "strides", "exact", "sharding", "invariance", "identities",
        "bias", "shapes", "scale",
    ),
    relations=RELATIONS,
)  # fmt: skip
