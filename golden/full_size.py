"""The whole model at its true size, on synthetic weights: what it is run on, and what is kept.

One pass over the weights serves both layer origins of the decay, a prompt and the steps behind
it, and for each origin two disturbed runs, whose distance from the plain one says how far rounding
carries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lingspec.golden.summary import Summary, summarize
from lingspec.reference import Call, LingConfig, LingModel
from lingspec.reference.cache import HybridCache, LightningCache
from lingspec.reference.synthetic import Synthetic, mixed

__all__ = ["Asked", "Outcome", "full_size", "token_ids"]

ORIGINS = (1, 0)
TOP = 256  # logits kept of every token but the last
# Where a disturbed run is disturbed: what one layer hands to the next.
STREAMS = ("embeddings", ".attention", ".mlp", ".output", "final_norm")


@dataclass(frozen=True)
class Asked:
    """What is run."""

    preset: str = "ling-2.5-1t"
    seed: int = 0
    prompt: int = 16
    steps: int = 4
    dtype: torch.dtype = torch.float32


@dataclass
class Outcome:
    """What is kept of the plain run with one layer origin."""

    input_ids: Tensor  # (1, T): the prompt and the steps
    summaries: dict[str, Summary] = field(default_factory=dict)
    routing: dict[str, Tensor] = field(default_factory=dict)  # topk_idx, whole
    logits: Tensor | None = None  # (vocabulary,) of the last token
    top_values: Tensor | None = None  # (T, TOP) float32
    top_ids: Tensor | None = None  # (T, TOP) int32
    # for every disturbed run, how far each tensor was from the plain one
    noise: dict[str, dict[str, float]] = field(default_factory=dict)


def token_ids(count: int, vocabulary: int) -> Tensor:
    """(1, count) token ids, from the hash that the synthetic weights are made with."""
    hashes = mixed(torch.arange(count, dtype=torch.int32)).long() & 0xFFFFFFFF
    return (hashes % vocabulary)[None]


def float32_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every element off by up to an ulp of float32, as another order of summing would have it."""
    return x * (1 + 2.0**-23 * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1))


def bf16_noise(x: Tensor, _generator: torch.Generator) -> Tensor:
    """Every element rounded to bfloat16."""
    return x.bfloat16().to(x.dtype)


Noise = Callable[[Tensor, torch.Generator], Tensor]
# Name, what it does, and whether it has the routing of the plain run.
DISTURBED: tuple[tuple[str, Noise, bool], ...] = (
    ("float32", float32_noise, False),
    ("bfloat16", bf16_noise, True),
)


class _Run:
    """One run in several calls: its tensors, whole, while a layer goes on."""

    def __init__(self, cache: HybridCache, disturb: Noise | None = None) -> None:
        self.cache, self.seen = cache, dict[str, list[Tensor]]()
        self.disturb, self.generator = disturb, torch.Generator().manual_seed(0)
        self.follow: _Run | None = None

    def tap(self, name: str, x: Tensor) -> Tensor | None:
        """Keep what is seen; disturb it, or put the routing of another run in its place."""
        parts = self.seen.setdefault(name, [])
        other: Tensor | None = None
        if self.follow is not None and name.endswith("topk_idx"):
            other = self.follow.seen[name][len(parts)]
        elif self.disturb is not None and name.endswith(STREAMS):
            other = self.disturb(x, self.generator)
        parts.append(x.view(1, *x.shape) if x.dim() == 2 else x)
        return other

    def taken(self) -> dict[str, Tensor]:
        """What was seen since the last time, all calls of a name in one tensor."""
        seen, self.seen = self.seen, {}
        return {name: torch.cat(parts, dim=1) for name, parts in seen.items()}


def full_size(
    asked: Asked, *, done: Callable[[int, int], None] = lambda *_: None, layers: int | None = None,
    weights: Mapping[str, Tensor] | None = None, config: LingConfig | None = None,
) -> dict[int, Outcome]:  # fmt: skip
    """Run both layer origins; what is kept of each.

    Args:
        asked:   What is run.
        done:    Told after every layer.
        layers:  Stop behind so many; there are no logits then.
        weights: In place of the synthetic ones.
        config:  In place of the preset's.
    """
    config = config or LingConfig.preset(asked.preset)
    model = LingModel(config, weights or Synthetic(config, asked.seed, asked.dtype))
    ids = token_ids(asked.prompt + asked.steps, config.vocab_size)
    runs = {origin: _runs(model, origin) for origin in ORIGINS}
    kept = {origin: Outcome(ids) for origin in ORIGINS}

    def keep(layer: int, of: int) -> None:
        for origin in ORIGINS:
            _keep(kept[origin], runs[origin], layer - 1)
        done(layer, of)
        if layer == layers:
            raise _Enough

    calls = [
        Call(part, cache=run.cache, tap=run.tap, decay_layer_origin=origin)
        for origin in ORIGINS
        for run in runs[origin].values()
        for part in torch.split(ids, [asked.prompt, *[1] * asked.steps], dim=1)
    ]
    try:
        model.together(calls, done=keep)
    except _Enough:
        return kept
    for origin in ORIGINS:
        _keep(kept[origin], runs[origin], None)
    return kept


class _Enough(Exception):  # noqa: N818 - not an error
    """As many layers as were asked for."""


def _runs(model: LingModel, origin: int) -> dict[str, _Run]:
    """The plain run, named "", and the disturbed ones."""
    cache = [model.new_cache(1, decay_layer_origin=origin) for _ in range(len(DISTURBED) + 1)]
    runs = {"": _Run(cache[0])}
    for (name, disturb, follows), own in zip(DISTURBED, cache[1:], strict=True):
        runs[name] = _Run(own, disturb)
        runs[name].follow = runs[""] if follows else None
    return runs


def _keep(outcome: Outcome, runs: Mapping[str, _Run], layer: int | None) -> None:
    """Summarise what the plain run has seen since the last time, and the others' distance."""
    taken = {name: run.taken() for name, run in runs.items()}
    if layer is not None:
        for name, run in runs.items():
            taken[name].update(_cached(run.cache, layer))
    plain = taken.pop("")
    for name, x in plain.items():
        if name.endswith("topk_idx"):
            outcome.routing[name] = x
        else:
            outcome.summaries[name] = summarize(x)
        if name == "logits":
            outcome.logits, top = x[0, -1].float(), x[0].topk(min(TOP, x.shape[-1]))
            outcome.top_values, outcome.top_ids = top.values.float(), top.indices.int()
        for disturbed, tensors in taken.items():
            apart = _rerouted if name.endswith("topk_idx") else _apart
            outcome.noise.setdefault(disturbed, {})[name] = apart(tensors[name], x)


def _apart(other: Tensor, x: Tensor) -> float:
    """The norm of the difference over that of ``x``."""
    return float((other.double() - x.double()).norm() / x.double().norm())


def _rerouted(other: Tensor, x: Tensor) -> float:
    """The share of tokens that went to other experts."""
    return float((other.sort(-1).values != x.sort(-1).values).any(-1).double().mean())


def _cached(cache: HybridCache, layer: int) -> dict[str, Tensor]:
    held: Any = cache.layers[layer]
    if isinstance(held, LightningCache):
        return {f"cache.{layer}.state": held.state}
    return {f"cache.{layer}.rows": held.rows}
