"""Traces to compare: of the reference with changed weights, or with changed tensors."""

from __future__ import annotations

from pathlib import Path

from lingspec.golden import Recorder, open_trace, record
from lingspec.reference import LingModel, open_checkpoint

OFFICIAL = Path(__file__).parents[2] / "golden" / "data" / "official"
BASE = OFFICIAL / "base"


def run(folder, name="base", change=None, **about):
    """A trace of the reference with changed weights, on the inputs of a stored trace."""
    weights, trace = open_checkpoint(OFFICIAL / name), open_trace(OFFICIAL / name)
    tensors = dict(weights)
    if change is not None:
        change(tensors)
    return record(
        LingModel(weights.config, tensors, dtype=about.pop("dtype", None)), trace["input_ids"],
        folder, positions=trace.get("position_ids"), attention_mask=trace.get("attention_mask"),
        **about,
    )  # fmt: skip


def copied(folder, trace, **changed):
    """A trace with other tensors under some names; None leaves one out."""
    tensors = {**trace, **{name.replace("__", "."): x for name, x in changed.items()}}
    with Recorder(folder, config=trace.config, precision=trace.precision) as made:
        for name, x in tensors.items():
            if x is not None:
                made.add(name, x)
    return folder


def swap_experts(weights):
    for part in ("gate", "up", "down"):
        a, b = (f"model.layers.2.mlp.experts.{e}.{part}_proj.weight" for e in (3, 7))
        weights[a], weights[b] = weights[b], weights[a]
