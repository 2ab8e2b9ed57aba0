"""The contract of mla_decode.

Letters: B batch, H heads, L latent rank, R rotary dims, P pages, G rows of a page, M entries of a
table of pages.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import Running
from lingspec.conformance.case import Call, Case, CaseError
from lingspec.conformance.contract import Algebra, Contract, Pick, TensorSpec
from lingspec.conformance.contracts import _pages, _queries, _softmax
from lingspec.conformance.contracts._decode_relations import RELATIONS
from lingspec.conformance.contracts._machines import STEPS
from lingspec.conformance.contracts._paged_machines import PagedReads
from lingspec.conformance.contracts._softmax import AIMED, EXACT, FAINT, RAMPS, SHIFTED
from lingspec.reference import mla_decode
from lingspec.reference.formulations.mla_decode import mla_decode_folded

__all__ = ["MLA_DECODE"]


def make(case: Case) -> Call:
    """Queries, a pool of pages in which nothing unused is harmless, tables and lengths."""
    a, traits, g = case.axes, case.traits, values.rng(case.seed)
    B, H, L, R, P, G, M = (a[x] for x in "BHLRPGM")
    counts = _pages.lengths(traits["fill"], B, G, M, g)
    used = [-(-n // G) for n in counts]
    if max([0, *used]) and not P:
        raise CaseError(f"case {str(case)!r} has P = 0, but must have a page to read")
    pages = _pages.table(traits["pages"], used, M, P, g)
    family, dtype = traits["values"], case.torch_dtype
    scale = _softmax.scale_of(L + R, g, case.law)
    q = _softmax.plain(family, (B, H, L + R), g, 0, scale)
    cache = _softmax.plain(family, (P, G, L + R), g, 1, scale)
    rows = torch.tensor(counts, dtype=torch.int64)
    _arrange(family, q, cache, pages, counts, L, scale, g, dtype)
    cache = cache.to(dtype)
    free, _ = _pages.unused(cache, pages, rows)
    loud = (torch.finfo(dtype).max, 3e4, 1.0)[case.seed % 3]
    sign = 2.0 * torch.randint(0, 2, cache.shape, generator=g).double() - 1
    cache = torch.where(free, (loud * sign).to(dtype), cache)
    index = torch.int32 if case.seed % 2 else torch.int64
    pages = _pages.strays(pages, used, g, index)
    floats = (q[..., :L].to(dtype), q[..., L:].to(dtype), cache)
    laid = [values.laid_out(x, values.layout_of(case, turn, 4)) for turn, x in enumerate(floats)]
    tensors = dict(zip(("q_latent", "q_rope", "cache"), laid, strict=True))
    wide = values.layout_of(case, 3, 4) in ("fused", "padded", "stepped")
    tensors["pages"] = _pages.padded(pages) if wide else pages
    tensors["lengths"] = rows.to(torch.int32 if case.seed % 4 < 2 else torch.int64)
    return Call(case.op, tensors, {"scale": scale}, _softmax.coherent(family),
                far=values.far_ones(case, tensors))  # fmt: skip


def _arrange(
    family: str, q: Tensor, cache: Tensor, pages: Tensor, counts: list[int], L: int, scale: float,
    g: Generator, dtype: torch.dtype,
) -> None:  # fmt: skip
    """Queries and rows of a family that speaks of keys by their places; in place."""
    B, H, W = q.shape
    if family == SHIFTED and cache.numel():  # a rotated channel: values have none
        q[..., L], cache[..., L] = _softmax.shifts(g, scale)
    if family == FAINT and cache.numel():  # queries see the latents as if none were louder
        P, G, _ = cache.shape
        less, gain = _softmax.faint(P * G, g, scale, dtype)
        q[..., :L] /= gain
        q[..., L], cache[..., L] = 1.0, -less.view(P, G)
        cache[..., :L] *= torch.where(less > 0, gain, 1.0).view(P, G, 1)
    if family in RAMPS:
        q *= 0.2
        q += 1.0
    for b in range(B):
        n = counts[b]
        if not n:
            continue
        row = torch.arange(n)
        at = pages[b][row // cache.shape[1]], row % cache.shape[1]
        if family in RAMPS:
            cache[at] = cache[at] + _softmax.ramp(n, family, scale, W)
        if family in (*AIMED, EXACT):
            place = {"first": 0, "last": n - 1}.get(family)
            picked = torch.randint(0, n, (H,), generator=g) if place is None else place
            q[b] *= 0.0 if family == EXACT else 0.2
            q[b] += _softmax.aim(cache[at][picked], family, scale)


def unread(call: Call) -> dict[str, Tensor]:
    """Rows that no sequence has, entries behind the last page of one."""
    t = call.tensors
    free, behind = _pages.unused(t["cache"], t["pages"], t["lengths"])
    return {"cache": free, "pages": behind}


def exact(call: Call, profile: Profile) -> frozenset[str]:
    """o_latent, where the best row of every query has a weight of 1 and all others underflow."""
    t = call.tensors
    narrow = [f for p, f in profile.points.items() if p in ("qk", "scaled")]
    gap = 800.0 if t["cache"].dtype == torch.float64 else 160.0
    q = torch.cat([t["q_latent"], t["q_rope"]], dim=-1).double()
    for b, rows in enumerate(_pages.rows_of(t["cache"], t["pages"], t["lengths"])):
        s = call.params["scale"] * (q[b] @ rows.double().mT)
        two = s.topk(min(2, s.shape[1]), dim=-1).values
        alone = s.shape[1] < 2 or bool((two[:, 0] - two[:, 1] >= gap).all())
        if not alone or not all(bool((f.cast(s) == s).all()) for f in narrow):
            return frozenset()
    return frozenset({"o_latent"})


# -- cases -----------------------------------------------------------------------------------

PAGES = (16, 1, 2, 7, 48, 64)
LATENT = (16, 8, 24, 32, 48, 64, 80)
ROPE = (8, 16, 24, 32)
ROWS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 47, 64, 65, 100)  # of the longest sequence, about
LONG = (127, 129, 200, 257, 513, 1025)
MOST = 1 << 15  # scores of one call


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then scores."""
    small = cost == "interpreted"
    layout = pick((*LAYOUTS[1:], "far") if law == "strides" else ("dense", "dense", "fused"))
    floor = 2 if law in ("permutation", "invariance") else 1
    B = pick(range(floor, 5 if small else 8))
    if law == "authority" and pick(range(12)) == 11:
        B = 0
    H = pick((2, 3, 5) if law in ("permutation", "sharding") else (1, 2, 3, 5, 16))
    L, R = pick(LATENT[2:] if law == "exact" else LATENT), pick(ROPE)
    G = pick(PAGES)
    rows = pick(pick((ROWS, ROWS, ROWS[:7] if small else LONG)))
    if law == "authority" and pick(range(7)) == 6:  # enough queries for a mean
        B, H, rows = 16 if small else 50, 1, pick(ROWS[:7])
    if pick(range(10)) == 9:  # the sizes of the model
        L, R, G, H, B = 512, 64, 64, 2, min(B, 3)
    family = _family(pick, law)
    if family in _softmax.EXTREME:
        L, R = min(L, 16), 8
    if law == "bias":  # errors of a row are one error: many rows
        B, H, L, R, rows = 12, 64, min(L, 24), 8, min(rows, 40)
    if small:  # a program for each query, one after another
        rows = min(rows, 33)
        H, B = min(H, 16), min(B, max(floor, 48 // min(H, 16)))
    B = min(B, max(floor, MOST // (rows * H)))
    M = -(-rows // G)
    fill = pick(_pages.FILLS[:1] * 3 + _pages.FILLS)
    if law == "authority" and pick(range(14)) == 13:
        M = 0
    P = max(3, M * B - pick((0, 0, 1, 4)) + pick((0, 1, 5)))
    if law in ("authority", "unread") and pick(range(3)) == 2:
        P += 3
    if M == 0 and pick((False, True)):
        P = 0
    axes = {"B": B, "H": H, "L": L, "R": R, "P": P, "G": G, "M": M}
    traits = {"values": family, "fill": fill, "pages": pick(_pages.TABLES), "layout": layout}
    if law == "sequences":
        axes |= {"H": min(H, 3), "L": min(L, 24), "R": 8, "G": min(G, 16)}
    cut = pick(STEPS) if law == "sequences" else 0
    seed = pick(range(0x10000))
    return Case("mla_decode", dtype, axes, traits, frozenset(), None, cut, seed, law)


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


LAYOUTS = tuple(layout for layout in values.LAYOUTS if layout != "expanded")  # rows are distinct

INPUTS = (
    TensorSpec("q_latent", "BHL", "input"),
    TensorSpec("q_rope", "BHR", "input"),
    TensorSpec("cache", "PGW", "input"),
    TensorSpec("pages", "BM", "index", means="pages", within="P"),
    TensorSpec("lengths", "B", "index", means="lengths", within="MG"),
)
OUTPUTS = (TensorSpec("o_latent", "BHL", "input"), TensorSpec("lse", "BH", "state"))


def analysed(q_latent: Running, q_rope: Running, cache: Running, **rest: Any) -> Any:
    """The reference, with queries that are rounded once for all keys."""
    made: Any = mla_decode(q_latent, q_rope, cache, **rest)  # type: ignore[arg-type]
    o, lse = made
    L, scale = q_latent.shape[2], rest["scale"]
    q: Any = torch.cat([q_latent, q_rope], dim=-1)  # type: ignore[list-item]
    by = _queries.rounded(q, scale)
    for b, length in enumerate(rest["lengths"].tolist()):
        if not length:
            continue
        used = rest["pages"][b, : -(-length // cache.shape[1])].long()
        rows = cache.value[used].flatten(0, 1)[:length]
        scores = scale * q[b].value @ rows.mT
        o[b], lse[b] = _queries.moved(o[b], lse[b], by[b], rows, rows[:, :L], scores)
    return o, lse


ATTENTION = _queries.Attention(mla_decode, analysed, mla_decode_folded, INPUTS, OUTPUTS)

MLA_DECODE = Contract(
    op="mla_decode",
    summary="one query for each sequence, over a paged cache of latents",
    signature="(q_latent[B,H,L], q_rope[B,H,R], cache[P,page,L+R], pages[B,M], lengths[B], *, "
    "scale) -> (o_latent[B,H,L], lse[B,H])",
    inputs=INPUTS,
    params={"scale": "a number"},
    outputs=OUTPUTS,
    positional=("q_latent", "q_rope", "cache", "pages", "lengths"),
    mutable=frozenset(),
    axes={
        "B": (0, 64), "H": (1, 64), "L": (8, 512), "R": (8, 64), "P": (0, 600), "G": (1, 64),
        "M": (0, 1025),
    },
    traits={
        "values": _softmax.FAMILIES, "fill": _pages.FILLS, "pages": _pages.TABLES,
        "layout": LAYOUTS,
    },
    flags=(),
    algebra=Algebra(independent=("B", "H"), shardable=("H",), unbiased=("o_latent",)),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite where they are read; where they are not, only for a candidate "
        "that declares nan_safe=True",
        "lengths that are negative or too long, pages out of range that are used, scale <= 0",
        "L or R that is not a multiple of 8",
        "lengths, or rows of pages, that are not contiguous",
        "bitwise equality between implementations",
    ),
    make=make,
    authority=ATTENTION.authority,
    variants=ATTENTION.variants,
    draw=draw,
    machine=PagedReads,
    laws=(
        "authority", "permutation", "determinism", "untouched", "strides", "exact", "sharding",
        "invariance", "identities", "bias", "shapes", "unread",
        "sequences", "scale",
    ),
    relations=RELATIONS,
    unread=unread,
)  # fmt: skip
