"""The contract of model: from token ids to logits, through the caches of all layers.

Letters: B batch, T tokens, W vocabulary, S cached rows, H heads, K and V head dims, Z width of a
row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.accuracy.running import Running, running
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import Algebra, Contract, Pick, Relation, TensorSpec, Values
from lingspec.conformance.contracts._composite import (
    LAYOUTS,
    cache_of,
    followed,
    moved,
    positions_of,
    weights_of,
)  # fmt: skip
from lingspec.conformance.contracts._configs import BASE, CONFIGS, SIZES, config_of, told
from lingspec.conformance.contracts._margins import near_ties, open_where
from lingspec.reference.cache import LatentCache, LightningCache
from lingspec.reference.config import LingConfig
from lingspec.reference.layers import decoder_layer
from lingspec.reference.layout import tensors
from lingspec.reference.ops.rms_norm import rms_norm
from lingspec.reference.precision import work

__all__ = ["MODEL", "config_of_case"]

WHOLE = dataclasses.replace(BASE, num_hidden_layers=4, num_nextn_predict_layers=0)
# Four layers: Lightning and MLA in turn, the last alone with MLA, two of it behind a group.
DEPTHS = tuple(
    {"layer_group_size": group, "num_hidden_layers": layers, "first_k_dense_replace": dense}
    for group, layers, dense in ((2, 4, 1), (4, 4, 0), (2, 5, 2), (3, 5, 1))
)
ALL_CONFIGS: dict[str, dict[str, Any]] = {
    **CONFIGS,
    "tied": {"tie_word_embeddings": True},
    "drafting": {"num_nextn_predict_layers": 1},
    "coarse": {"rms_norm_eps": 0.1},  # so that it shows in norms of large activations
}
ALL_DRAWN = tuple(n for n in (*ALL_CONFIGS, "yarn") if n != "router")  # too many weights
CACHES = tuple(
    spec
    for n in range(max(depth["num_hidden_layers"] for depth in DEPTHS))
    for spec in (
        TensorSpec(f"cache.{n}.rows", "BSZ", "input", optional=True),
        TensorSpec(f"cache.{n}.state", "BHKV", "state", optional=True),
    )
)
INPUTS = (
    TensorSpec("input_ids", "BT", "index", means="tokens"),
    TensorSpec("positions", "BT", "index", means="positions"),
    *CACHES,
)
OUTPUTS = (TensorSpec("logits", "BTW", "state"), *CACHES)
# Activations have the dtype of the weights, and there may be nothing else that has it.
NORM = TensorSpec("weights.model.norm.weight", "D", "input")


# -- calls ---------------------------------------------------------------------------------------


def make(case: Case) -> Call:
    """Token ids, weights, positions, and the caches of earlier tokens."""
    a, config = case.axes, config_of_case(case)
    g, dtype = values.rng(case.seed), case.torch_dtype
    ids = torch.randint(0, config.vocab_size, (a["B"], a["T"]), generator=g)
    ids = ids.to(torch.int64 if case.seed % 3 else torch.int32)
    given = {
        name: values.laid_out(x, values.layout_of(case, turn, 2))
        for turn, (name, x) in enumerate(
            {"input_ids": ids, "positions": positions_of(case)}.items()
        )
    }
    given |= weights_of(config, (name for name, _ in tensors(config)), case.seed, dtype)
    if "cache" in case.flags:
        for n in range(config.num_hidden_layers):
            kind = "rows" if config.is_mla(n) else "state"
            given[f"cache.{n}.{kind}"] = cache_of(config, n, a, g, dtype)
    return Call(case.op, given, {"config": told(config)})


def config_of_case(case: Case) -> LingConfig:
    """The configuration of a case."""
    return config_of(case.traits["config"], case.seed, base=WHOLE, named=ALL_CONFIGS, depths=DEPTHS)


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first; caches where the law cuts."""
    small = cost == "interpreted"
    least = 2 if law in ("permutation", "determinism") else 1
    B = pick(range(least, 4)) if law != "authority" else pick((1, 2, 3, 0))
    counts: tuple[int, ...] = (2, 3, 5, 9, *(() if small else (17,)))
    if law == "authority":
        counts = (*counts, 1, 0, *(() if small else (33,)))
    elif law != "causality":
        counts = (1, *counts)
    often = (
        (False,) if law == "invariance" else (False, False, True)
    )  # positions follow from caches
    cached = law == "handover" or pick(often)
    axes = {"B": B, "T": pick(counts), "S": pick((0, 1, 5, 16)) if cached else 0}
    traits = {
        "config": pick(ALL_DRAWN),
        "layout": pick(LAYOUTS[1:]) if law == "strides" else "dense",
    }  # fmt: skip
    cut = pick(range(17)) if law in ("causality", "handover") else 0
    flags = {"cache"} if cached else set()
    flags |= {"tree"} if not cached and pick((False, False, True)) else set()
    seed = pick(range(SIZES)) * SIZES + pick(range(SIZES))
    return Case("model", dtype, axes, traits, frozenset(flags), None, cut, seed, law)


# -- authority -----------------------------------------------------------------------------------


def run(
    *, input_ids: Tensor, positions: Any, config: Mapping[str, Any],
    tap: Callable[[str, Any], Any] = lambda *_: None, **given: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """The layers of the reference, one after the other: logits, and the caches where there are."""
    made = LingConfig.from_dict(config)
    weights = {n.removeprefix("weights."): x for n, x in given.items() if n[:8] == "weights."}
    held = {int(s.name.split(".")[1]): _held(given[s.name], s) for s in CACHES if s.name in given}
    caches = [held.get(n) for n in range(made.num_hidden_layers)]
    x: Any = weights["model.word_embeddings.weight"][input_ids]
    if isinstance(x, Running):  # the table of angles errs too
        positions = running(positions.double(), x.profile)
    for n, cache in enumerate(caches):
        x = decoder_layer(x, weights, made, layer=n, positions=positions, cache=cache, tap=tap)
    x = rms_norm(x, weights["model.norm.weight"], eps=made.rms_norm_eps)
    tied = "model.word_embeddings.weight" if made.tie_word_embeddings else "lm_head.weight"
    logits = work((work(x) @ work(weights[tied]).mT).to(x.dtype))
    kept = [c.rows if isinstance(c, LatentCache) else c.state for c in caches if c is not None]
    return logits, *kept


def _held(x: Any, spec: TensorSpec) -> LatentCache | LightningCache:
    return LatentCache(x) if spec.name.endswith("rows") else LightningCache(x)


def authority(call: Call, profile: Profile) -> dict[str, Limits]:
    """In float64, with limits; none for what hangs on experts that no margin decides."""
    seen: dict[str, Any] = {}

    def op(**given: Any) -> tuple[Any, ...]:
        return run(tap=seen.__setitem__, **given)

    found = Analysis(op, (*INPUTS, NORM), _there(call)).authority(call, profile)
    undecided = torch.zeros(call.tensors["input_ids"].shape, dtype=torch.bool)  # (B, T)
    for n in range(call.params["config"]["num_hidden_layers"]):
        for name in (f"cache.{n}.rows", f"cache.{n}.state"):
            if name in found:
                found[name] = open_where(found[name], _kept(undecided, found[name]))
        undecided = undecided.cumsum(dim=1) > 0  # a layer sees all earlier tokens
        if (logits := seen.get(f"layers.{n}.router_logits")) is not None:
            undecided = undecided | near_ties(logits, call, n)
    found["logits"] = open_where(found["logits"], undecided[..., None])
    return found


def _kept(undecided: Tensor, limits: Limits) -> Tensor:
    """What of a cache is made of tokens that are undecided (B, T)."""
    if limits.bound.dim() == 4:
        return undecided.any(dim=1)[:, None, None, None]
    before = limits.bound.shape[1] - undecided.shape[1]
    return torch.nn.functional.pad(undecided, (before, 0))[..., None]


def variants(call: Call, profile: Profile) -> list[dict[str, Any]]:
    """As `Analysis.variants`."""
    return Analysis(run, (*INPUTS, NORM), _there(call)).variants(call, profile)


def _there(call: Call) -> tuple[TensorSpec, ...]:
    """What ``call`` returns."""
    return tuple(s for s in OUTPUTS if not s.optional or s.name in call.tensors)


def _unmoved(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["logits"], after["logits"], rtol=1e-9, atol=1e-9)


MODEL = Contract(
    op="model",
    summary="from token ids to logits",
    signature="(input_ids[B,T], weights, config, *, positions[B,T], cache=None) -> "
    "logits[B,T,W]; cache[n].state or cache[n].rows",
    inputs=INPUTS,
    params={"config": "the keys of a config.json"},
    outputs=OUTPUTS,
    positional=("input_ids", "weights", "config"),
    mutable=frozenset(s.name for s in CACHES),
    nested={"weights": "mapping", "cache": "objects"},
    axes={"B": (0, 3), "T": (0, 33), "S": (0, 16)},
    traits={"config": tuple(ALL_CONFIGS), "layout": LAYOUTS},
    flags=("cache", "tree"),
    told=followed,
    algebra=Algebra(
        causal="T", bitwise=False, stateful="T", state=tuple((s.name, s.name) for s in CACHES),
        independent=("B",),
    ),
    profiles=dict.fromkeys(("float64", "float32"), NAMES),
    silent_on=(
        "activations of 16 bits: of a whole model limits say little there; traces do",
        "weights that are not finite",
        "padding",
        "tokens whose experts no margin decides, and what later tokens see of them",
        "MTP layers: they are mtp_layer",
    ),
    make=make,
    authority=authority,
    variants=variants,
    draw=draw,
    laws=(
        "authority", "causality", "handover", "permutation", "determinism", "untouched", "strides",
        "invariance", "shapes",
    ),
    relations={"shifted": Relation("all positions later by the same", "invariance", moved,
                                   _unmoved)},
)  # fmt: skip
