"""The contract of latent_cache_write: bits at their places, and nothing else.

Letters: T tokens, L latent rank, R rotary dims, P pages, G rows of a page, W = L + R.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.copies import Copied
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.case import Call, Case, CaseError
from lingspec.conformance.contract import Algebra, Contract, Pick, Relation, TensorSpec, Values
from lingspec.conformance.contracts._machines import STEPS
from lingspec.conformance.contracts._paged_machines import PagedWrites
from lingspec.reference import latent_cache_write

__all__ = ["LATENT_CACHE_WRITE"]

ORDERS = ("shuffled", "rising", "falling", "ends")  # how slots follow each other
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def make(case: Case) -> Call:
    """Rows to write, a cache full of other rows, distinct slots, some of them -1."""
    a, g, dtype = case.axes, values.rng(case.seed), case.torch_dtype
    T, L, R, P, G = (a[x] for x in "TLRPG")
    if P * G < T:
        raise CaseError(f"case {str(case)!r} has P = {P}, but must have a slot for each of T = {T}")
    shapes = ((1, T, L), (1, T, R), (P, G, L + R))
    floats = [_numbers(case.traits["values"], shape, dtype, g) for shape in shapes]
    laid = [values.laid_out(x, values.layout_of(case, turn)) for turn, x in enumerate(floats)]
    tensors = {"latent": laid[0][0], "rope": laid[1][0], "cache": laid[2]}
    slots = _slots(case.traits["order"], T, P * G, g)
    if "padding" in case.flags and T:
        slots[torch.randperm(T, generator=g)[: (T + 2) // 3]] = -1
    live = (slots >= 0).nonzero().flatten()
    if case.traits["layout"] == "far" and live.numel():  # the row that lies furthest
        last = P * G - 1
        slots[slots == last] = slots[live[-1]].clone()
        slots[live[-1]] = last
    tensors["slots"] = slots.to(torch.int32 if case.seed % 2 else torch.int64)
    return Call(case.op, tensors, {}, coherent=True, far=values.far_ones(case, tensors))


def _numbers(kind: str, shape: tuple[int, ...], dtype: torch.dtype, g: Generator) -> Tensor:
    """Values of a kind, or any bits: NaN of every payload, infinities, -0 and subnormals."""
    if kind != "bits":
        return values.tokens(kind, shape, g, salt=0).to(dtype)
    count, size = torch.Size(shape).numel(), dtype.itemsize
    raw = torch.randint(0, 256, (count * size,), generator=g, dtype=torch.uint8)
    bits = raw.view(INTEGERS[size]).reshape(shape)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0], dtype=dtype)
    payload = torch.randint(1, 64, shape, generator=g, dtype=INTEGERS[size])
    chosen = special[torch.randint(0, 4, shape, generator=g)].view(INTEGERS[size])
    chosen = torch.where(chosen.view(dtype).isnan(), chosen | payload, chosen)
    return torch.where(torch.rand(shape, generator=g) < 0.3, chosen, bits).view(dtype)


def _slots(order: str, T: int, rows: int, g: Generator) -> Tensor:
    """T distinct slots below ``rows``."""
    if order == "ends":  # the first and the last of the cache, and what lies beside them
        near = torch.arange(rows)
        near = torch.stack([near, near.flip(0)], dim=1).flatten()[: 2 * T]
        return torch.tensor(list(dict.fromkeys(near.tolist()))[:T], dtype=torch.int64)
    slots = torch.randperm(rows, generator=g)[:T]
    if order == "shuffled":
        return slots
    return slots.sort(descending=order == "falling").values


def authority(call: Call, profile: Profile) -> dict[str, Any]:  # noqa: ARG001 - nothing rounds
    """The cache afterwards, bit for bit."""
    return {"cache": Copied("cache", _written(call))}


def variants(call: Call, profile: Profile) -> list[dict[str, Tensor]]:  # noqa: ARG001 - likewise
    """There is one right result."""
    return [{"cache": _written(call)}]


def _written(call: Call) -> Tensor:
    cache = call.tensors["cache"].clone()
    latent_cache_write(**{**call.tensors, "cache": cache})
    return cache


# -- relations -------------------------------------------------------------------------------


def _same(before: Values, after: Values, _: Call) -> bool:
    a, b = before["cache"], after["cache"]
    whole = INTEGERS[a.element_size()]
    return torch.equal(a.contiguous().view(whole).flatten(), b.contiguous().view(whole).flatten())


def _reversed(call: Call, _: Generator) -> Call | None:
    """The tokens from the last, each with its slot."""
    return call.with_tensors(**{n: call.tensors[n].flip(0) for n in ("latent", "rope", "slots")})


def _without_padding(call: Call, _: Generator) -> Call | None:
    """Only the tokens that are written."""
    live = call.tensors["slots"] >= 0
    if bool(live.all()):
        return None
    return call.with_tensors(**{n: call.tensors[n][live] for n in ("latent", "rope", "slots")})


def _repaged(call: Call, g: Generator) -> Call | None:
    """The same cache in pages of another size."""
    P, G, W = call.tensors["cache"].shape
    sizes = [n for n in range(1, P * G + 1) if (P * G) % n == 0 and n != G]
    if not sizes or not W:
        return None
    size = sizes[int(torch.randint(0, len(sizes), (1,), generator=g))]
    return call.with_tensors(cache=call.tensors["cache"].reshape(-1, size, W))


def _resplit(call: Call, g: Generator) -> Call | None:
    """The same rows, cut elsewhere into latent and rotated key, at a multiple of 8."""
    row = torch.cat([call.tensors["latent"], call.tensors["rope"]], dim=1)
    cuts = [n for n in range(8, row.shape[1], 8) if n != call.tensors["latent"].shape[1]]
    if not cuts:
        return None
    cut = cuts[int(torch.randint(0, len(cuts), (1,), generator=g))]
    return call.with_tensors(latent=row[:, :cut].contiguous(), rope=row[:, cut:].contiguous())


RELATIONS = {
    "reversed": Relation("tokens reversed with their slots", "invariance", _reversed, _same),
    "padding": Relation("padding left out", "invariance", _without_padding, _same),
    "repaged": Relation("pages of another size", "identities", _repaged, _same),
    "resplit": Relation("rows cut elsewhere", "identities", _resplit, _same),
}

# -- cases -----------------------------------------------------------------------------------

PAGES = (16, 1, 48, 64, 2, 7)
LATENT = (16, 8, 24, 40, 64, 96, 512)
ROPE = (8, 16, 24, 64)
FAMILIES = ("normal", "bits", "wide")
TOKENS = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 47, 49, 63, 64, 65, 100, 129)


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then what is written."""
    small = cost == "interpreted"
    layout = pick((*LAYOUTS[1:], "far") if law == "strides" else ("dense", "dense", *LAYOUTS[1:3]))
    least = 1 if law in ("permutation", "determinism") else 0
    T = pick(TOKENS[least : 12 if small else None])
    if law == "authority" and pick(range(8)) == 7:
        T = 0
    G, L, R = pick(PAGES), pick(LATENT[: 6 if small else None]), pick(ROPE)
    P = max(3, -(-T // G) + pick(range(4)))
    if T == 0 and pick((False, True)):
        P = 0
    flags = frozenset({"padding"} if pick((False, True)) else ())
    traits = {"values": pick(FAMILIES), "order": pick(ORDERS), "layout": layout}
    axes = {"T": T, "L": L, "R": R, "P": P, "G": G}
    if law == "sequences":
        axes |= {"T": min(T, 3), "L": min(L, 24), "R": 8, "G": min(G, 16)}
    cut = pick(STEPS) if law == "sequences" else 0
    seed = pick(range(0x10000))
    return Case("latent_cache_write", dtype, axes, traits, flags, None, cut, seed, law)


LAYOUTS = tuple(x for x in values.LAYOUTS if x not in ("expanded", "far"))

LATENT_CACHE_WRITE = Contract(
    op="latent_cache_write",
    summary="each token's latent and rotated key, copied into its row of a paged cache",
    signature="(latent[T,L], rope[T,R], cache[P,page,L+R], slots[T]) -> None; cache is updated in "
    "place",
    inputs=(
        TensorSpec("latent", "TL", "input"),
        TensorSpec("rope", "TR", "input"),
        TensorSpec("cache", "PGW", "input"),
        TensorSpec("slots", "T", "index", means="slots", within="PG"),
    ),
    params={},
    outputs=(),
    positional=("latent", "rope", "cache", "slots"),
    mutable=frozenset({"cache"}),
    axes={"T": (0, 129), "L": (8, 512), "R": (8, 64), "P": (0, 140), "G": (1, 64)},
    traits={"values": FAMILIES, "order": ORDERS, "layout": (*LAYOUTS, "far")},
    flags=("padding",),
    algebra=Algebra(independent=("T",)),
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "slots that repeat or are out of range, but for -1",
        "L or R that is not a multiple of 8",
        "slots that are not contiguous",
    ),
    make=make,
    authority=authority,
    variants=variants,
    draw=draw,
    machine=PagedWrites,
    laws=(
        "authority", "permutation", "determinism", "untouched", "strides", "invariance",
        "identities", "shapes",
        "sequences",
    ),
    relations=RELATIONS,
)  # fmt: skip
