"""Which cases of lightning_attention are drawn: structure first, then a value family."""

from __future__ import annotations

from lingspec.conformance import values
from lingspec.conformance.case import Case
from lingspec.conformance.contract import Pick
from lingspec.conformance.contracts._machines import STEPS

__all__ = ["ONLY", "WRT", "draw"]

# Of gradients: the result that alone is used, the input that alone is trained.
ONLY = ("only-o", "only-final_state")
WRT = ("wrt-q", "wrt-k", "wrt-v", "wrt-initial_state")
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
