"""Two traces of one call: are they the same, and where do they part?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingspec.golden.measure import (
    Difference,
    difference,
    exchanged,
    mismatch,
    routing,
)
from lingspec.golden.names import INPUTS, parsed
from lingspec.golden.trace import PRECISIONS, Entry, Trace, TraceError, open_trace
from lingspec.reference.checks import require
from lingspec.reference.config import ConfigError, LingConfig

__all__ = ["LIMITS", "Comparison", "compare"]

OFFICIAL = "golden/data/official/README.md"
# Relative, for a tensor; and where it comes from.
LIMITS = {
    "float64": (1e-12, "formulations of the reference in float64 are this close"),
    "float32": (2e-5, f"traces of the released code in float32, {OFFICIAL}"),
    "bfloat16": (3e-2, f"traces of the released code in bfloat16, end to end, {OFFICIAL}"),
}
# Fields of a configuration that say nothing of what one call computes.
SILENT = (
    "dtype", "eos_token_id", "max_position_embeddings", "num_nextn_predict_layers", "pad_token_id",
)  # fmt: skip
EXIT = {"AGREE": 0, "DIFFER": 1, "INCOMPLETE": 3, "NOT ONE CALL": 3}
Tick = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Comparison:
    """What came of two traces."""

    a: Trace
    b: Trace
    limit: float  # relative, for a tensor
    because: str  # where the limit comes from
    differences: tuple[Difference, ...]  # of every tensor of both, in order
    missing_a: tuple[str, ...] = ()  # of B, and A lacks them
    missing_b: tuple[str, ...] = ()
    config: tuple[str, ...] = ()  # in what the configurations differ
    inputs: tuple[str, ...] = ()  # in what the inputs differ; then nothing was compared

    @property
    def status(self) -> str:
        """AGREE, DIFFER, INCOMPLETE or NOT ONE CALL."""
        if self.inputs:
            return "NOT ONE CALL"
        if self.first is not None or self.config:
            return "DIFFER"
        if self.missing_a or self.missing_b or not self.differences:
            return "INCOMPLETE"
        return "AGREE"

    @property
    def exit_code(self) -> int:
        """0 the same, 1 not, 3 cannot be said."""
        return EXIT[self.status]

    @property
    def beyond(self) -> tuple[Difference, ...]:
        """All that are beyond the limit."""
        return tuple(d for d in self.differences if d.beyond)

    @property
    def first(self) -> Difference | None:
        """The first that is."""
        return next(iter(self.beyond), None)

    def around(self) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
        """What was compared before the first that is beyond the limit, and after it."""
        if self.first is None:
            return self.differences, ()
        place = self.differences.index(self.first)
        return self.differences[:place], self.differences[place + 1 :]

    def routing_of(self, layer: int | None, call: str) -> Difference | None:
        """What was found of the experts of a layer, in one call."""
        for found in self.differences:
            name = parsed(found.name)
            if (name.call, name.layer, name.kind) == (call, layer, "topk_idx"):
                return found
        return None


def compare(
    a: Trace | str | Path, b: Trace | str | Path, limit: float | None = None, *,
    tick: Tick | None = None,
) -> Comparison:  # fmt: skip
    """Compare all tensors that two traces have in common, in the order of ``b``.

    Every tensor is held once, and widened a chunk at a time. Experts are compared as sets of a
    token, their weights expert by expert where a token has the same experts in both. Rows of
    padding do not count.

    Args:
        a:     A trace, or its folder.
        b:     Likewise.
        limit: Relative, for a tensor. None: that of the coarser of both precisions, `LIMITS`.
        tick:  Called with how many tensors are done, of how many, and the name of the next.

    Raises:
        TraceError: a folder is no trace; a tensor is not what was recorded; the precision of the
            traces has no limit, and none is given.
        ContractError: ``limit`` is not a number >= 0.
    """
    one, other = (x if isinstance(x, Trace) else open_trace(x) for x in (a, b))
    bound, because = _limit(one, other, limit)
    told = _configs(one.config, other.config)
    inputs = tuple(_inputs(one, other))
    if inputs:
        return Comparison(one, other, bound, because, (), config=told, inputs=inputs)
    names = [[n for n in x if not _given(n)] for x in (one, other)]
    shared = [n for n in names[1] if n in one]
    walk = _Walk(one, other, bound)
    found = []
    for done, name in enumerate(shared):
        if tick is not None:
            tick(done, len(shared), name)
        found.append(walk.of(name))
    return Comparison(
        one, other, bound, because, tuple(found),
        tuple(n for n in names[1] if n not in one), tuple(n for n in names[0] if n not in other),
        told,
    )  # fmt: skip


class _Walk:
    """One tensor after the other."""

    def __init__(self, a: Trace, b: Trace, limit: float) -> None:
        self.a, self.b, self.limit = a, b, limit
        self.tokens = {**_tokens(a), **_tokens(b)}  # (B, T) of each call
        steps = [step for n in b if (step := parsed(n).step) is not None]
        self.steps = max(steps, default=-1) + 1
        masks = [x["attention_mask"] for x in (a, b) if "attention_mask" in x]
        self.mask: Tensor | None = masks[0] == 1 if masks else None

    def of(self, name: str) -> Difference:
        """What there is to say of one name."""
        shape = self._shape(name, self.a.entries[name], self.b.entries[name])
        if shape is None:
            shapes = [x.entries[name].shape for x in (self.a, self.b)]
            return mismatch(name, f"shape {shapes[0]} in A, {shapes[1]} in B")
        keep, axes = self._keep(name, shape), self._axes(name, shape)
        if parsed(name).kind == "topk_idx":
            return self._experts(name, shape, keep, axes)
        x, y = self.a[name].reshape(shape), self.b[name].reshape(shape)
        experts = f"{name.removesuffix('topk_weight')}topk_idx"
        if parsed(name).kind == "topk_weight" and experts in self.a and experts in self.b:
            ids = [t[experts].reshape(-1, t[experts].shape[-1]) for t in (self.a, self.b)]
            if ids[0].shape == ids[1].shape == (math.prod(shape[:-1]), shape[-1]):
                orders = [i.argsort(dim=-1).view(shape) for i in ids]
                x, y = (v.gather(-1, o) for v, o in zip((x, y), orders, strict=True))
                same = (ids[0].sort(-1).values == ids[1].sort(-1).values).all(dim=-1)
                keep = same if keep is None else same & keep
        return difference(name, x, y, self.limit, keep=keep, axes=axes)

    def _experts(
        self, name: str, shape: tuple[int, ...], keep: Tensor | None, axes: tuple[str, ...]
    ) -> Difference:
        ids = (self.a[name].reshape(shape), self.b[name].reshape(shape))
        found = routing(name, *ids, keep=keep, axes=axes)
        logits = f"{name.removesuffix('topk_idx')}router_logits"
        if not found.beyond or logits not in self.a or logits not in self.b:
            return found
        both = (self.a[logits], self.b[logits])
        rows, E = math.prod(shape[:-1]), both[1].shape[-1]
        if any(x.numel() != rows * E or x.shape[-1] != E for x in both):
            return found
        groups = (self.b.config or self.a.config or {}).get("n_group")
        groups = groups if isinstance(groups, int) and groups > 0 else 1
        return exchanged(found, ids, both, keep, groups)

    def _shape(self, name: str, a: Entry, b: Entry) -> tuple[int, ...] | None:
        """The shape of both; tokens of all sequences may stand in one axis. None: there is none."""
        B, T = self.tokens.get(parsed(name).call, (0, 0))
        shapes = [
            (B, T, x.shape[1]) if len(x.shape) == 2 and x.shape[0] == B * T else x.shape
            for x in (a, b)
        ]
        return shapes[1] if shapes[0] == shapes[1] else None

    def _axes(self, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
        """What the indices of a row count."""
        of = parsed(name)
        if of.of == "cache":
            axes = {"state": ("sequence", "head", "row"), "rows": ("sequence", "token")}
            return axes.get(of.kind, ("sequence", "head", "token"))[: len(shape) - 1]
        if shape[:2] == self.tokens.get(of.call) and len(shape) > 2:
            return ("sequence", "token", "head")[: len(shape) - 1]
        return ()

    def _keep(self, name: str, shape: tuple[int, ...]) -> Tensor | None:
        """Which rows are not padding; None: all."""
        of = parsed(name)
        if self.mask is None or len(shape) < 3:
            return None
        mask = self.mask
        if of.of != "cache":
            if shape[:2] != self.tokens.get(of.call):
                return None
            first = 0 if of.step is None else mask.shape[1] - self.steps + of.step
            mask = mask[:, first : first + shape[1]]
        if tuple(mask.shape) != shape[:2]:
            return None
        return mask.reshape(*shape[:2], *[1] * (len(shape) - 3)).expand(shape[:-1]).reshape(-1)


def _tokens(trace: Trace) -> dict[str, tuple[int, int]]:
    """Sequences and tokens of each call, from the first tensor that has an axis for each."""
    found: dict[str, tuple[int, int]] = {}
    for name, entry in trace.entries.items():
        of = parsed(name)
        if len(entry.shape) == 3 and of.of != "cache" and of.call not in found:
            found[of.call] = (entry.shape[0], entry.shape[1])
    return found


def _limit(a: Trace, b: Trace, given: float | None) -> tuple[float, str]:
    if given is not None:
        ok = math.isfinite(given) and given >= 0
        require(ok, "limit", "value", given, "a finite number >= 0")
        return given, "given"
    precisions = {x.precision for x in (a, b)} & set(PRECISIONS)
    coarser = max(precisions, key=PRECISIONS.index, default=None)
    if coarser not in LIMITS:
        raise TraceError(f"no limit is known for {coarser or 'a trace without floats'}: give one")
    bound, because = LIMITS[coarser]
    return bound, f"{coarser}: {because}"


# -- what both must have in common ---------------------------------------------------------------


def _given(name: str) -> bool:
    return parsed(name).kind in INPUTS


def _inputs(a: Trace, b: Trace) -> Iterator[str]:
    """In what the inputs that both have differ."""
    one, other = ({_one_name(n): n for n in x if _given(n)} for x in (a, b))
    for name in (n for n in one if n in other):
        x, y = a[one[name]], b[other[name]]
        if x.shape != y.shape:
            yield f"{name} is {tuple(x.shape)} in A, {tuple(y.shape)} in B"
        elif not torch.equal(x.double(), y.double()):
            at = tuple((x != y).nonzero()[0].tolist())
            yield f"{name}{list(at)} is {x[at]} in A, {y[at]} in B"


def _one_name(name: str) -> str:
    return name.replace("position_ids", "positions")


def _configs(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> tuple[str, ...]:
    """In what the configurations differ, of what a call computes."""
    if a is None or b is None:
        return ()
    try:
        one, other = (dataclasses.asdict(LingConfig.from_dict(x)) for x in (a, b))
    except (ConfigError, TypeError):  # of another engine: what both say
        one, other = dict(a), dict(b)
    return tuple(
        f"{key} is {one[key]!r} in A, {other[key]!r} in B"
        for key in one
        if key in other and key not in SILENT and one[key] != other[key]
    )
