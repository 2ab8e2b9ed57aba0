"""The contract of merge_attention.

Letters: B batch, T tokens, H heads, V value dim.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.case import Call, Case, dtype_of
from lingspec.conformance.contract import (
    Algebra,
    Contract,
    Group,
    Pick,
    Relation,
    TensorSpec,
    Values,
)  # fmt: skip
from lingspec.conformance.contracts._softmax import FAINT, faint
from lingspec.reference import merge_attention
from lingspec.reference.formulations.merge_attention import merge_attention_base_two

__all__ = ["MERGE_ATTENTION"]

# How the masses of the two sides stand to each other.
MASSES = (
    "alike", "equal", "unequal", "onesided", "neither", "overflow", "loud", "mixture", FAINT,
    "decided",
)  # fmt: skip
RANKS = ("rank4", "rank1", "rank2", "rank3")
LOUD = 2e5  # logits may be as large
SINGLE = torch.finfo(torch.float32).max
DECIDED = 1000.0  # exp of minus this is 0 in every format


def make(case: Case) -> Call:
    """Two sides; what has no key is loud."""
    a, g = case.axes, values.rng(case.seed)
    B, T, H, V = (a[x] for x in "BTHV")
    wide = dtype_of("state", case.torch_dtype)
    exact = case.law == "exact"
    o = [
        values.tokens("wide" if exact else case.traits["values"], (B, T, H, V), g, salt=2)
        for _ in range(2)
    ]
    masses = _masses(case.traits["masses"], (B, T, H), g)
    if case.traits["masses"] == FAINT:
        depth, gain = faint(B * T * H, g, 1.0, case.torch_dtype)
        masses[1] = masses[0] - depth.view(B, T, H)
        largest = 3e4 if case.dtype == "f16" else SINGLE
        louder = (gain * o[1]).clamp(-largest, largest)
        o[1] = torch.where(depth.view(B, T, H, 1) > 0, louder, o[1])
    if case.law == "invariance":  # 64 more on both sides rounds nothing
        masses = [(x * 2**12).round() / 2**12 for x in masses]
    if case.law == "unread" and masses[0].numel():  # one row at least that nobody reads
        masses[0].view(-1)[0] = -torch.inf
    lse = [x.to(wide) for x in masses]
    o = [x.to(case.torch_dtype) for x in o]
    # float32 must hold it too: the proof of power computes there; and scaled, its own format
    largest = min(torch.finfo(case.torch_dtype).max, SINGLE)
    loud = largest if case.seed % 2 and case.law != "homogeneity" else 3e4
    o = [torch.where(m[..., None] == -torch.inf, loud, x) for x, m in zip(o, lse, strict=True)]
    tensors = {}
    for turn, (name, x) in enumerate(zip(("o1", "lse1", "o2", "lse2"),
                                         (o[0], lse[0], o[1], lse[1]), strict=True)):  # fmt: skip
        layout = values.layout_of(case, turn, 4)
        layout = values.state_layout(layout) if x.dim() == 3 else layout
        tensors[name] = _ranked(values.laid_out(x, layout), case.traits["rank"], x.dim() == 4)
    coherent = case.traits["values"] in values.COHERENT
    return Call(case.op, tensors, {}, coherent, far=values.far_ones(case, tensors))


def _ranked(x: Tensor, rank: str, has_values: bool) -> Tensor:
    """(B, T, H[, V]) with as many axes as ``rank`` says."""
    if rank == "rank4":
        return x
    if rank == "rank3":
        return x.flatten(0, 1)
    if rank == "rank2":
        return x.flatten(0, 2)
    x = x[0, 0, 0]
    return x if has_values else x.reshape(())


def _masses(kind: str, shape: tuple[int, ...], g: Generator) -> list[Tensor]:
    a = torch.randn(shape, generator=g, dtype=torch.float64)
    b = torch.randn(shape, generator=g, dtype=torch.float64)
    if kind == "mixture":
        made = [_masses(k, shape, g) for k in MASSES if k not in ("mixture", "neither", FAINT)]
        which = torch.randint(0, len(made), shape, generator=g)
        return [torch.stack([m[n] for m in made]).gather(0, which[None])[0] for n in range(2)]
    if kind == "equal":
        b = a
    if kind == "unequal":  # one side has next to nothing
        b = a + torch.where(b > 0, 1.0, -1.0) * (4 + 12 * torch.rand(shape, generator=g))
    if kind == "onesided":
        none = torch.rand(shape, generator=g)
        a, b = a.masked_fill(none < 0.4, -torch.inf), b.masked_fill(none > 0.6, -torch.inf)
    if kind == "neither":
        none = torch.rand(shape, generator=g) < 0.6
        a, b = a.masked_fill(none, -torch.inf), b.masked_fill(none, -torch.inf)
    if kind == "overflow":  # exp overflows, or gives 0, unless the larger is taken off
        by = 95 + 400 * torch.rand(shape, generator=g)
        by = torch.where(torch.rand(shape, generator=g) < 0.5, by, -by)
        a, b = a + by, b + by
    if kind == "loud":
        by = torch.where(torch.rand(shape, generator=g) < 0.5, LOUD, -LOUD)
        a, b = (a + by).float().double(), (b + by).float().double()
    if kind == "decided":
        more = torch.where(torch.rand(shape, generator=g) < 0.5, DECIDED, -DECIDED)
        b = a + 2 * more
    return [a, b]


def unread(call: Call) -> dict[str, Tensor]:
    """What a side without a key holds."""
    return {
        f"o{n}": (call.tensors[f"lse{n}"] == -torch.inf)[..., None].expand(
            call.tensors[f"o{n}"].shape
        )
        for n in (1, 2)
    }


def exact(call: Call, profile: Profile) -> frozenset[str]:  # noqa: ARG001 - whatever it rounds
    """Both results, where one side has all of the mass."""
    a, b = call.tensors["lse1"].double(), call.tensors["lse2"].double()
    none = (a == -torch.inf) | (b == -torch.inf)
    decided = none | ((a - b).abs() >= DECIDED)
    return frozenset({"o", "lse"} if bool(decided.all()) else ())


# -- relations -------------------------------------------------------------------------------


def _same(before: Values, after: Values, _: Call) -> bool:
    return all(torch.allclose(before[n], after[n], rtol=1e-9, atol=1e-12) for n in ("o", "lse"))


def _swapped(call: Call, _: Generator) -> Call | None:
    """The two sides exchanged."""
    t = call.tensors
    return call.with_tensors(o1=t["o2"], lse1=t["lse2"], o2=t["o1"], lse2=t["lse1"])


def _louder(call: Call, _: Generator) -> Call | None:
    """64 more on both sides, where that rounds nothing."""
    both = {n: call.tensors[n] + 64 for n in ("lse1", "lse2")}
    kept = all(bool(((x - 64 == call.tensors[n]) | x.isinf()).all()) for n, x in both.items())
    return call.with_tensors(**both) if kept else None


def _by_64(before: Values, after: Values, call: Call) -> bool:
    return _same({**before, "lse": before["lse"] + 64}, after, call)


def _itself(call: Call, _: Generator) -> Call | None:
    """The first side with itself."""
    return call.with_tensors(o2=call.tensors["o1"], lse2=call.tensors["lse1"])


def _is_itself(_: Values, after: Values, call: Call) -> bool:
    o, lse = call.tensors["o1"].double(), call.tensors["lse1"].double()
    o = o.masked_fill((lse == -torch.inf)[..., None], 0.0)
    return _same({"o": o, "lse": lse + torch.tensor(2.0, dtype=torch.float64).log()}, after, call)


def _with_nothing(call: Call, g: Generator) -> Call | None:
    """One side without any key."""
    side = 1 + int(torch.randint(0, 2, (1,), generator=g))
    return call.with_tensors(**{f"lse{side}": torch.full_like(call.tensors["lse1"], -torch.inf)})


def _is_the_other(_: Values, after: Values, call: Call) -> bool:
    sides = [(call.tensors[f"o{n}"].double(), call.tensors[f"lse{n}"].double()) for n in (1, 2)]
    return any(
        _same({"o": o.masked_fill((lse == -torch.inf)[..., None], 0.0), "lse": lse}, after, call)
        for o, lse in sides
    )


RELATIONS = {
    "swapped": Relation("the sides exchanged", "invariance", _swapped, _same),
    "louder": Relation("the same added to both masses", "invariance", _louder, _by_64),
    "itself": Relation("a side merged with itself", "identities", _itself, _is_itself),
    "nothing": Relation("a side merged with nothing", "identities", _with_nothing, _is_the_other),
}

# -- cases -----------------------------------------------------------------------------------

DIMS = (16, 8, 24, 32, 40, 64, 80, 96, 128, 512)
FEW = (1, 2, 3, 5, 7, 8, 13)
MANY = (15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 129)
FAMILIES = ("normal", "small", "heavy", "mixed", "zeros", "positive", "onehot", "wide")
MOST = 1 << 16  # elements


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then masses."""
    small = cost == "interpreted"
    layout = pick((*LAYOUTS[1:], "far") if law == "strides" else LAYOUTS[:1] * 3 + LAYOUTS[1:4])
    H = pick((2, 3, 5) if law in ("permutation", "sharding") else (1, 2, 3, 5, 16))
    B, T = pick((1, 2, 3)), pick(pick((FEW, MANY)))
    if law == "authority" and pick(range(10)) == 9:
        B, T = pick(((0, 3), (2, 0), (0, 0)))
    if law == "permutation":
        B = max(B, 2)
    V = pick(DIMS)
    T = min(T, max(2, (MOST // 4 if small else MOST) // max(1, B * H * V)))
    if small:  # a program for each row, one after another
        T = min(T, max(2, 96 // max(1, B * H)))
    rank = pick((*RANKS[:1] * 4, *RANKS[1:])) if law == "authority" else "rank4"
    if rank == "rank1":
        B, T, H = 1, 1, 1
    masses: tuple[str, ...] = MASSES[:-1]
    family: str = pick(FAMILIES)
    if law == "exact":
        masses, family = ("decided", "decided", "onesided"), "wide"
    if law == "bias":  # beside a mass of next to nothing a number is rounded back to itself
        masses, family = ("alike", "overflow"), pick(("normal", "small"))
    if law == "unread":
        masses = ("onesided", "mixture", "neither")
    traits = {"values": family, "masses": pick(masses), "rank": rank, "layout": layout}
    axes = {"B": B, "T": T, "H": H, "V": V}
    return Case("merge_attention", dtype, axes, traits, frozenset(), None, 0,
                pick(range(0x10000)), law)  # fmt: skip


LAYOUTS = tuple(x for x in values.LAYOUTS if x not in ("expanded", "far"))
INPUTS = (
    TensorSpec("o1", "BTHV", "input"),
    TensorSpec("lse1", "BTH", "state"),
    TensorSpec("o2", "BTHV", "input"),
    TensorSpec("lse2", "BTH", "state"),
)
OUTPUTS = (TensorSpec("o", "BTHV", "input"), TensorSpec("lse", "BTH", "state"))
ANALYSIS = Analysis(merge_attention, INPUTS, OUTPUTS, (merge_attention_base_two,))
LINEAR = (Group(("o1", "o2"), ("o",)),)

MERGE_ATTENTION = Contract(
    op="merge_attention",
    summary="the attention over two sets of keys, from the attention over each",
    signature="(o1[..., V], lse1[...], o2[..., V], lse2[...]) -> (o[..., V], lse[...])",
    inputs=INPUTS,
    params={},
    outputs=OUTPUTS,
    positional=("o1", "lse1", "o2", "lse2"),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "H": (1, 16), "V": (8, 512)},
    traits={"values": FAMILIES, "masses": MASSES, "rank": RANKS, "layout": (*LAYOUTS, "far")},
    flags=(),
    algebra=Algebra(
        independent=("B", "T", "H", "V"),
        homogeneous_in=LINEAR,
        linear_in=LINEAR,
        shardable=("H",),
        unbiased=("o",),
        chain=("o", "o1"),
    ),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "o that is not finite where its lse is; elsewhere only for a candidate that declares "
        "nan_safe=True",
        "lse of +inf or NaN",
        "V that is not a multiple of 8",
        "more than three axes before V",
        "bitwise equality between implementations",
    ),
    make=make,
    authority=ANALYSIS.authority,
    variants=ANALYSIS.variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "sharding", "invariance", "identities", "bias", "shapes", "unread",
        "scale",
    ),
    relations=RELATIONS,
    unread=unread,
)  # fmt: skip
