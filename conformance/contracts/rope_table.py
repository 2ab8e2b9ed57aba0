"""The contract of rope_table.

Letters: B batch, T tokens, R rotary dims, F = R/2 pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.formats import of_dtype
from lingspec.conformance.accuracy.limits import Limits, limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import analysing, running
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.case import Call, Case, CaseError, dtype_of
from lingspec.conformance.contract import (
    Algebra,
    Contract,
    Pick,
    Relation,
    TensorSpec,
    Values,
)
from lingspec.conformance.contracts import _rope, _rows
from lingspec.reference import rope_table, rounding

__all__ = ["ROPE_TABLE"]

RESULTS = ("cos", "sin")
DIMS = (8, 2, 4, 6, 16, 20, 32, 48, 64, 64, 128)
YARN: Mapping[str, Mapping[str, Any] | None] = {
    "plain": None,
    "yarn": {},
    "ratio": {"mscale": 1.0, "mscale_all_dim": 0.707},
    "same": {"mscale": 0.707, "mscale_all_dim": 0.707},
    "half": {"mscale": 0.707, "mscale_all_dim": 0.0},
    "factored": {"attention_factor": 1.125},
    "ends": {"beta_fast": 17.0, "beta_slow": 2.5, "truncate": False},
    "wide": {"beta_fast": 64, "beta_slow": 0.5},
    "before": {"mscale": 0.707},
    "behind": {"mscale_all_dim": 0.707},
    "told": {"mscale": 1.0, "mscale_all_dim": 0.707, "attention_factor": 1.25},
    "rough": {"truncate": False},
    "fast": {"beta_fast": 17.0},
    "slow": {"beta_slow": 2.5},
}
THETAS = (10_000.0, 600_000, 6_000_000.0, 500.0, 1e8)
RANKS = ("rank2", "rank1", "rank3")  # how many axes positions have
CONTEXTS = ((40, 4096), (4.0, 32768), (8, 1024), (1.5, 8192))


def make(case: Case) -> Call:
    """Positions in one of the dtypes that hold them, and the mapping of a configuration."""
    a = case.axes
    if a["R"] % 2 or a["R"] < 2:
        raise CaseError(f"case {str(case)!r} has R = {a['R']}, but must have an even one")
    g = values.rng(case.seed)
    at = _rope.positions(case.traits["places"], a["B"], a["T"], g)
    if case.law == "exact":
        at = torch.zeros_like(at)
    kinds = (torch.int64, torch.int32, torch.float32)
    dtype = torch.float64 if case.dtype == "f64" else kinds[case.seed // 4 % 3]
    x = values.laid_out(at.to(dtype)[..., None].contiguous(), "dense")[..., 0]
    tensors = {"positions": _ranked(_laid_out(x, case.traits["layout"]), case.traits["rank"])}
    named = YARN[case.traits["scaling"]]
    factor, context = CONTEXTS[case.seed % len(CONTEXTS)]
    scaling = None if named is None else {
        "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": context, **named,
    }  # fmt: skip
    theta = THETAS[case.seed // 5 % len(THETAS)]
    params = {"rotary_dim": a["R"], "theta": theta, "scaling": scaling}
    coherent = case.traits["places"] == "same"
    return Call(case.op, tensors, params, coherent)


def _laid_out(x: Tensor, layout: str) -> Tensor:
    if layout == "expanded":
        return x[:1].contiguous().expand_as(x)
    return values.laid_out(x, layout)


def _ranked(x: Tensor, rank: str) -> Tensor:
    if rank == "rank1":
        return x[0]
    return torch.unflatten(x, 1, (-1, 2 - x.shape[1] % 2)) if rank == "rank3" else x


def authority(call: Call, profile: Profile) -> dict[str, Limits]:
    """Frequencies and angles are exact; how far those of float32 may be from them is analysed."""
    at = call.tensors["positions"]
    with rounding(analysing(profile)):
        made = rope_table(running(at.double(), profile), **call.params)  # type: ignore[arg-type]
    form = of_dtype(_wide(at))
    return {
        name: limits(name, [x], profile, form, coherent=call.coherent)
        for name, x in zip(RESULTS, made, strict=True)
    }


def _wide(positions: Tensor) -> torch.dtype:
    return dtype_of("state", positions.dtype)


def variants(call: Call, profile: Profile) -> list[dict[str, Tensor]]:
    """The reference, with and without the permitted rounding of its results."""
    at = call.tensors["positions"]
    wide = torch.float64 if profile.arithmetic.u < 2.0**-50 else torch.float32
    made = []
    for points in (None, ()):
        with rounding(casting(profile, points)):
            results = rope_table(at.to(wide), **call.params)
        made.append({n: x.to(_wide(at)) for n, x in zip(RESULTS, results, strict=True)})
    return made


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then positions and scaling."""
    axes = _rows.rows(pick, law, DIMS, small=cost == "interpreted")
    axes["R"] = axes.pop("D")
    layouts = ("stepped", "padded", "transposed", "fused", "expanded")
    rank = pick((*RANKS[:1] * 3, *RANKS[1:])) if law == "authority" else "rank2"
    differ = law == "permutation" or rank == "rank3"  # from one row of positions to another
    traits = {
        "places": pick(_rope.PLACES[6:] if differ else _rope.PLACES),
        "scaling": pick(tuple(YARN)[1:] if law == "identities" else tuple(YARN)),
        "layout": pick(layouts) if law == "strides" else "dense",
        "rank": rank,
    }
    if rank != "rank2":
        axes = {"B": 1 if rank == "rank1" else max(axes["B"], 1),
                "T": max(axes["T"], 1), "R": axes["R"]}  # fmt: skip
    seed = pick(range(0x10000))
    return Case("rope_table", dtype, axes, traits, frozenset(), None, 0, seed, law)


def exact(call: Call, _: Profile) -> frozenset[str]:
    """At position 0 a sine is 0, and a cosine 1 without YaRN."""
    if bool((call.tensors["positions"] != 0).any()):
        return frozenset()
    return frozenset(RESULTS if call.params["scaling"] is None else RESULTS[1:])


# -- relations -------------------------------------------------------------------------------


def _other_dtype(call: Call, g: Generator) -> Call | None:
    at = call.tensors["positions"]
    if at.dtype == torch.float64:
        return None
    kinds = [k for k in (torch.int64, torch.int32, torch.float32) if k != at.dtype]
    return call.with_tensors(positions=at.to(kinds[int(torch.randint(0, 2, (1,), generator=g))]))


def _told(call: Call, scaling: Mapping[str, Any] | None) -> Call:
    return replace(call, params={**call.params, "scaling": scaling})


def _older_name(call: Call, _: Generator) -> Call | None:
    given = call.params["scaling"]
    if given is None:
        return None
    return _told(call, {"type" if k == "rope_type" else k: v for k, v in given.items()})


def _defaults(call: Call, _: Generator) -> Call | None:
    given = call.params["scaling"]
    if given is None or "attention_factor" in given:
        return None
    s, one, all_dim = given["factor"], given.get("mscale"), given.get("mscale_all_dim")
    told = 0.1 * math.log(s) + 1
    if one and all_dim:
        told = (0.1 * one * math.log(s) + 1) / (0.1 * all_dim * math.log(s) + 1)
    ends = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
    return _told(call, {**ends, **given, "attention_factor": told})


def _nothing(call: Call, _: Generator) -> Call | None:
    """A factor of 1."""
    given = call.params["scaling"]
    if given is None or call.params["scaling"].get("attention_factor") is not None:
        return None
    return _told(call, {**given, "factor": 1.0})


def _same(before: Values, after: Values, _: Call) -> bool:
    return all(torch.allclose(before[n], after[n], rtol=0, atol=1e-9) for n in RESULTS)


def _is_plain(_: Values, after: Values, call: Call) -> bool:
    plain = {**call.params, "scaling": None}
    want = rope_table(call.tensors["positions"].double(), **plain)
    got = (after[n] for n in RESULTS)
    return all(torch.allclose(a, b, rtol=0, atol=1e-9) for a, b in zip(got, want, strict=True))


INPUTS = (TensorSpec("positions", "BT", "position", means="positions", free=True),)
OUTPUTS = (TensorSpec("cos", "BTF", "state"), TensorSpec("sin", "BTF", "state"))

ROPE_TABLE = Contract(
    op="rope_table",
    summary="cosine and sine of every pair's angle at every position, YaRN included",
    signature="(positions[...], *, rotary_dim, theta, scaling=None) -> (cos[..., R/2], "
    "sin[..., R/2]) float32",
    inputs=INPUTS,
    params={
        "rotary_dim": "even, >= 2", "theta": "> 1", "scaling": "a YaRN mapping, or None",
    },
    outputs=OUTPUTS,
    positional=("positions",),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "R": (2, 128)},
    traits={
        "places": _rope.PLACES, "scaling": tuple(YARN), "layout": values.LAYOUTS[:-1],
        "rank": RANKS,
    },
    flags=(),
    algebra=Algebra(independent=("B", "T")),
    exact=exact,
    profiles={"float64": NAMES, "float32": NAMES},
    silent_on=(
        "positions below 0 or from 2^20",
        "positions in 16 bits",
        "scaling of another kind than YaRN, factors below 1",
        "bitwise equality between implementations",
    ),
    make=make,
    authority=authority,
    variants=variants,
    draw=draw,
    laws=(
        "authority", "permutation", "determinism", "untouched", "strides", "exact", "identities",
        "shapes", "scale",
    ),
    relations={
        "otherwise": Relation("positions of another dtype", "identities", _other_dtype, _same),
        "older": Relation("the kind under its older name", "identities", _older_name, _same),
        "defaults": Relation("what is left out, told", "identities", _defaults, _same),
        "nothing": Relation("a factor of 1", "identities", _nothing, _is_plain),
    },
)  # fmt: skip
