"""Cases in the place of one that a candidate does not support: other draws, sizes kernels are for.

A kernel for heads of 128 channels, or for sequences that are multiples of its tile, is right about
what it supports. Of cases that are drawn for everybody it supports few, or none, and nothing could
be said of it. Where it refuses a case it is therefore asked others, until it supports one: drawn
anew, then with channels that are multiples of a tile, or as many as the model has, with a multiple
of tokens and of heads. What it refused is counted all the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from lingspec.conformance.case import Case
from lingspec.conformance.contract import Contract
from lingspec.conformance.large import OWN
from lingspec.conformance.regimes import has_members, has_past
from lingspec.conformance.wide import WIDE

__all__ = ["TRIES", "stand_ins"]

T = TypeVar("T")

TRIES = 64  # of which the first quarter is drawn as any other case
TILES = (1, 16, 32, 64, 128, 256)  # what channels may be a multiple of
TOKENS = (1, 1, 1, 16, 64, 128)
HEADS = (1, 1, 4, 4, 8, 16)
# Parts of the work of a wide case: where sizes need not be smaller, and where they cannot be.
ENOUGH, MOST = 0.5, 4.0

# Axes that are channels, by op.
CHANNELS = {
    "rms_norm": "D", "add_rms_norm": "D", "gated_group_rms_norm": "D", "rope_table": "R",
    "partial_rope": "KR", "interleaved_rope": "R", "qk_norm_rope": "KR",
    "lightning_attention": "KV", "lightning_decode": "KV", "mla_attention": "KV",
    "mla_decode": "LR", "merge_attention": "V", "latent_cache_write": "LR", "moe_logits": "DE",
    "moe_experts": "DI", "swiglu": "I", "fp8_quantize": "MN", "fp8_dequantize": "MN",
}  # fmt: skip


def stand_ins(contract: Contract, case: Case, cost: str) -> Iterator[Case]:
    """Cases of the same law and dtype, each other than the last."""
    known = {str(case)}
    for n in range(TRIES):
        made = _one(contract, case, cost, n)
        if made is not None and str(made) not in known:
            known.add(str(made))
            yield made


def _one(contract: Contract, case: Case, cost: str, n: int) -> Case | None:
    draws = random.Random(f"{case}/{n}")

    def pick(options: Sequence[T], /) -> T:
        return options[int(draws.random() * len(options))]

    drawn = contract.draw(pick, case.law or "authority", cost, case.dtype)
    if 4 * n < TRIES:
        return drawn
    turn, sizes = n // 2, OWN.get(case.op, ())
    own = sizes[turn % len(sizes)] if sizes and n % 2 else {}
    heads, tokens = own.get("H", draws.choice(HEADS)), draws.choice(TOKENS)
    fitted = _fitted(drawn, own, TILES[turn % len(TILES)], heads, tokens)
    made = _affordable(fitted, heads, tokens, cost)
    fits = made is not None and has_members(contract, made) and has_past(made)
    return made if fits else None


def _fitted(case: Case, own: Mapping[str, int], tile: int, heads: int, tokens: int) -> Case:
    """The case in sizes of the model, or of tiles."""
    axes = {**case.axes, **own}
    for a in CHANNELS.get(case.op, "") if not own else ():
        each = axes["G"] if case.op == "gated_group_rms_norm" else 1
        axes[a] = each * _up(axes[a] // each, tile)
    for a in _tokens(case.op):
        axes[a] = _up(axes.get(a, 0), tokens)
    if "H" in axes:
        axes["H"] = _up(axes["H"], heads)
    axes = {a: n for a, n in axes.items() if a in case.axes}
    axes = _with_pages(case.op, axes)
    lengths = case.lengths
    return case.with_(axes=axes, lengths=lengths and tuple(_up(n, tokens) for n in lengths))


def _affordable(case: Case, heads: int, tokens: int, cost: str) -> Case | None:
    """Fewer members, tokens, heads, pages, until every product is small enough."""
    few = tokens if tokens > 1 else 4
    work = {w: most[cost == "interpreted"] for w, most in WIDE[case.op].work.items()}
    beyond = math.inf
    rows = dict.fromkeys(_tokens(case.op), few)
    for most in ({}, {"B": 2}, rows, {"B": 1}, {"H": heads}, {"M": 2}, {"P": 3}):
        axes = {a: min(n, most.get(a, n)) for a, n in case.axes.items()}
        lengths = case.lengths
        if lengths is not None and most is rows:
            lengths = tuple(min(n, few) for n in lengths[:3])
        case = case.with_(axes=_with_pages(case.op, axes), lengths=lengths)
        sizes = {"B": 1, "T": sum(lengths or ()), **case.axes}
        sizes.setdefault("S", sizes["T"])
        beyond = max((math.prod(sizes[a] for a in w) / room for w, room in work.items()), default=0)
        if beyond <= ENOUGH:
            break
    return case if beyond <= MOST else None


def _with_pages(op: str, axes: dict[str, int]) -> dict[str, int]:
    """No fewer slots, or pages of them, than what stands in them needs."""
    if op == "latent_cache_write":
        return axes | {"P": max(axes["P"], -(-axes["T"] // axes["G"]))}
    return axes | {"P": max(axes["P"], axes["B"])} if op == "lightning_decode" else axes


def _tokens(op: str) -> str:
    """The axes that are tokens; of `moe_route`, S is how many groups are kept."""
    return "T" if op == "moe_route" else "TS"


def _up(n: int, tile: int) -> int:
    """The next multiple; nothing stays nothing."""
    return -(-n // tile) * tile
