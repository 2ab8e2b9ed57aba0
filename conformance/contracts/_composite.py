"""What the contracts of the composite ops share: configurations, weights, near ties, cases.

A composite takes its weights as a mapping of the released names, and its configuration as the keys
of a `config.json`; its cache is an object with the field ``state`` (Lightning) or ``rows`` (MLA).

Letters: B batch, T tokens, D hidden size, L layer, S cached rows, H heads, K head dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.accuracy.running import Running, running
from lingspec.conformance.case import Call, Case, CaseError, dtype_of
from lingspec.conformance.contract import Contract, Pick, Relation, TensorSpec, Values
from lingspec.conformance.contracts._configs import BASE, DRAWN, SIZES, config_of, layer_of, told
from lingspec.conformance.contracts._margins import near_ties, open_where
from lingspec.reference.cache import LatentCache, LightningCache
from lingspec.reference.config import LingConfig
from lingspec.reference.layout import FLOAT32, layer_tensors
from lingspec.reference.synthetic import Synthetic

__all__ = [
    "FAMILIES", "LAWS", "LAYOUTS", "OFFSETS", "SIGNATURE", "Composite", "cache_of", "contract_of",
    "followed", "moved", "positions_of", "shifted", "weights_of",
]  # fmt: skip

# Those of independent values: of a whole layer no bound says much, so likelihoods must hold.
FAMILIES = ("normal", "small", "heavy", "zeros", "mixed")
LAWS = (
    "authority", "causality", "handover", "permutation", "determinism", "untouched", "strides",
    "invariance", "shapes",
)  # fmt: skip
SIGNATURE = "(x[B,T,D], weights, config, *, layer, positions[B,T], cache=None) -> y[B,T,D]"
LAYOUTS = ("dense", "fused", "padded", "stepped", "transposed")
OFFSETS = (0, 1, 255, 257, 4000)
# Where the tokens of a call count on from 15 bits to 16, or to 17; what float32 knows of an angle
# ends not far behind.
FAR = {"f64": (1 << 16) - 6, "f32": (1 << 15) - 6}


def weights_of(
    config: LingConfig, names: Iterable[str], seed: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The tensors of a checkpoint, as the arguments of a call; no narrower format holds them."""
    wide = dtype_of("state", dtype)
    made = Synthetic(config, seed % 97, torch.float64)
    found, g = {name: made[name] for name in names}, values.rng(seed, "weights")
    for name, x in found.items():
        # up to half a percent away from what is synthetic, which 16 bits hold
        found[name] = x * (1 + 0.005 * torch.rand(x.shape, generator=g, dtype=torch.float64))
        if name.endswith(FLOAT32):  # biases so far apart that most margins are wide
            order = torch.randperm(x.numel(), generator=values.rng(seed, "bias"))
            found[name] = 0.25 * order.double() - 0.997
    return {
        f"weights.{name}": x.to(wide if name.endswith(FLOAT32) else dtype)
        for name, x in found.items()
    }


def cache_of(
    config: LingConfig, layer: int, a: Mapping[str, int], g: Generator, dtype: torch.dtype
) -> Tensor:
    """What a layer keeps of earlier tokens: rows of MLA, the state of Lightning."""
    if config.is_mla(layer):
        width = config.kv_lora_rank + config.qk_rope_head_dim
        rows = torch.randn(a["B"], a["S"], width, generator=g, dtype=torch.float64)
        return rows.to(dtype)
    H, K = config.num_attention_heads, config.head_dim
    state = torch.randn(a["B"], H, K, K, generator=g, dtype=torch.float64)
    return (0.5 * state).to(dtype_of("state", dtype))


def positions_of(case: Case) -> Tensor:
    """Those of the tokens behind a cache, or from some offset on; of a tree of drafts, any."""
    a, g = case.axes, values.rng(case.seed, "positions")
    offsets = (*OFFSETS, *OFFSETS[:4], FAR.get(case.dtype, 0))
    apart = offsets[case.seed % len(offsets)] + 3 * torch.arange(a["B"])[:, None]
    steps = torch.arange(a["T"]).expand(a["B"], a["T"])
    if "tree" in case.flags:  # neither what the cache counts nor one after the other
        steps = torch.randint(0, 3, (a["B"], a["T"]), generator=g).cumsum(-1)
    first = a["S"] * torch.ones_like(apart) if "cache" in case.flags else apart
    first = first + apart % 7 if "tree" in case.flags else first
    return (first + steps).to(torch.int32 if case.seed % 2 else torch.int64)


def followed(call: Call) -> dict[str, Any]:
    """What `supports` is shown of positions: those that a cache counts, or steps of 1, or any."""
    at = call.tensors["positions"]
    behind = max((x.shape[1] for n, x in call.tensors.items() if n.endswith("rows")), default=0)
    if bool((at == behind + torch.arange(at.shape[1])).all()):
        return {"positions": "counted"}
    return {"positions": "consecutive" if bool((at.diff(dim=1) == 1).all()) else "any"}


@dataclass(frozen=True)
class Composite:
    """A composite op: the function of the reference, and which layers and caches it takes."""

    op: str
    function: Callable[..., Any]
    layers: tuple[int, ...]
    cached: bool = True
    embedded: bool = False  # a second input, as x
    routes: bool = True  # to experts, in some layers
    others: tuple[Callable[..., Any], ...] = ()  # further formulations

    # -- calls -------------------------------------------------------------------------------

    def make(self, case: Case) -> Call:
        """Activations, weights of the layer, positions, and a cache of earlier tokens."""
        a, config = case.axes, config_of(case.traits["config"], case.seed)
        if a["L"] not in self.layers:
            raise CaseError(f"case {str(case)!r} has L = {a['L']}, but must have {self.layers}")
        g, dtype, layer = values.rng(case.seed), case.torch_dtype, layer_of(config, a["L"])
        shape = (a["B"], a["T"], config.hidden_size)
        tensors: dict[str, Tensor] = {}
        names = ("x", "embedded") if self.embedded else ("x",)
        for turn, name in enumerate(names):
            x = values.tokens(case.traits["values"], shape, g, salt=0)
            x = 0.25 * x if dtype == torch.float16 else x
            layout = values.layout_of(case, turn, len(names))
            tensors[name] = values.laid_out(x.to(dtype), layout)
        tensors["positions"] = positions_of(case)
        stored = (name for name, _ in layer_tensors(config, layer))
        tensors |= weights_of(config, stored, case.seed, dtype)
        if "cache" in case.flags:
            kind = "rows" if config.is_mla(layer) else "state"
            tensors[f"cache.{kind}"] = cache_of(config, layer, a, g, dtype)
        params = {"config": told(config), "layer": layer}
        return Call(case.op, tensors, params)

    def draw(self, pick: Pick, law: str, cost: str, dtype: str) -> Case:
        """Structure first, then values; a cache where the law cuts."""
        small = cost == "interpreted"
        least = 2 if law in ("permutation", "determinism") else 1
        B = pick(range(least, 4)) if law != "authority" else pick((1, 2, 3, 0))
        counts: tuple[int, ...] = (2, 3, 5, 9, 17, *(() if small else (33,)))
        if law == "authority":
            counts = (*counts, 1, 0, *(() if small else (33, 65)))
        elif law != "causality":
            counts = (1, *counts)
        layer = pick(self.layers)
        often: tuple[bool, ...] = (False, True) if law == "strides" else (False, False, True)
        often = (False,) if law == "invariance" else often  # positions follow from a cache
        cached = self.cached and (law == "handover" or pick(often))
        axes = {"B": B, "T": pick(counts), "L": layer, "S": pick((0, 1, 5, 16)) if cached else 0}
        traits = {
            "config": pick(DRAWN), "values": pick(FAMILIES),
            "layout": pick(LAYOUTS[1:]) if law == "strides" else "dense",
        }  # fmt: skip
        cut = pick(range(33)) if law in ("causality", "handover") else 0
        flags = {"cache"} if cached else set()
        flags |= {"tree"} if pick((False, False, False, True)) else set()
        seed = pick(range(SIZES)) * SIZES + pick(range(SIZES))
        return Case(self.op, dtype, axes, traits, frozenset(flags), None, cut, seed, law)

    # -- authority ---------------------------------------------------------------------------

    def run(self, **given: Any) -> tuple[Any, ...]:
        """The reference on flat arguments: y, and the cache where there is one."""
        return self.tapped(None, **given)

    def tapped(self, tap: Callable[[str, Any], Any] | None, **given: Any) -> tuple[Any, ...]:
        """`run`, with a tap where the function has one."""
        config = LingConfig.from_dict(given["config"])
        weights = {n.removeprefix("weights."): x for n, x in given.items() if n[:8] == "weights."}
        inputs = [given[n] for n in (("x", "embedded") if self.embedded else ("x",))]
        cache: Any = None
        if "cache.state" in given:
            cache = LightningCache(given["cache.state"])
        elif "cache.rows" in given:
            cache = LatentCache(given["cache.rows"])
        positions = given["positions"]
        if isinstance(inputs[0], Running):  # the table of angles errs too
            positions = running(positions.double(), inputs[0].profile)
        more = {} if tap is None else {"tap": tap}
        y = self.function(
            *inputs, weights, config, layer=given["layer"], positions=positions, cache=cache, **more
        )
        if cache is None:
            return (y,)
        return y, cache.state if isinstance(cache, LightningCache) else cache.rows

    def authority(self, call: Call, profile: Profile) -> dict[str, Limits]:
        """In float64, with limits; none for tokens whose experts no margin decides."""
        seen: dict[str, Any] = {}

        def tap(name: str, x: Any) -> None:
            seen[name.rpartition(".")[2]] = x

        def op(**given: Any) -> tuple[Any, ...]:
            return self.tapped(tap if self.routes else None, **given)

        found = Analysis(op, self.inputs, self._there(call), self._forms()).authority(call, profile)
        if "router_logits" not in seen:
            return found
        near = near_ties(seen["router_logits"], call, call.params["layer"])
        found["y"] = open_where(found["y"], near[..., None])
        return found

    def variants(self, call: Call, profile: Profile) -> list[dict[str, Any]]:
        """As `Analysis.variants`."""
        return Analysis(self.run, self.inputs, self._there(call)).variants(call, profile)

    def _forms(self) -> tuple[Callable[..., tuple[Any, ...]], ...]:
        return tuple(
            dataclasses.replace(self, function=other, others=()).run for other in self.others
        )

    def _there(self, call: Call) -> tuple[TensorSpec, ...]:
        """What ``call`` returns."""
        return tuple(s for s in self.outputs if not s.optional or s.name in call.tensors)

    # -- the contract ------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Arguments, but for the weights, which are named by the configuration."""
        more = (TensorSpec("embedded", "BTD", "input"),) if self.embedded else ()
        specs = (
            TensorSpec("x", "BTD", "input"),
            *more,
            TensorSpec("positions", "BT", "index", means="positions"),
        )
        return (*specs, *self._caches()) if self.cached else specs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Results."""
        y = TensorSpec("y", "BTD", "input")
        return (y, *self._caches()) if self.cached else (y,)

    def _caches(self) -> tuple[TensorSpec, ...]:
        kinds = {BASE.is_mla(layer) for layer in self.layers}
        specs = {
            False: TensorSpec("cache.state", "BHKV", "state", optional=True),
            True: TensorSpec("cache.rows", "BSZ", "input", optional=True),
        }
        return tuple(specs[kind] for kind in sorted(kinds))


def moved(call: Call, g: Generator) -> Call | None:
    """All positions later by the same, where no cache has earlier ones."""
    if any(name.startswith("cache.") for name in call.tensors):
        return None
    by = (1, 64, 1000)[int(torch.randint(0, 3, (1,), generator=g))]
    return call.with_tensors(positions=call.tensors["positions"] + by)


def _unmoved(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["y"], after["y"], rtol=1e-9, atol=1e-9)


shifted = Relation("all positions later by the same", "invariance", moved, _unmoved)


def contract_of(composite: Composite, **more: Any) -> Contract:
    """The contract of a composite; ``more`` is what is its own."""
    caches = [s.name for s in composite.inputs if s.optional]
    inputs = ("x", "embedded") if composite.embedded else ("x",)
    return Contract(
        op=composite.op,
        inputs=composite.inputs,
        params={"config": "the keys of a config.json", "layer": "from 0"},
        outputs=composite.outputs,
        positional=(*inputs, "weights", "config"),
        mutable=frozenset(caches),
        nested={"weights": "mapping", "cache": "object"},
        axes={"B": (0, 3), "T": (0, 65), "L": (0, 5), "S": (0, 16)},
        flags=("cache", "tree"),
        told=followed,
        make=composite.make,
        authority=composite.authority,
        variants=composite.variants,
        draw=composite.draw,
        **more,
    )
