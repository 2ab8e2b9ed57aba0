"""The contract of swiglu.

Letters: B batch, T tokens, I hidden channels, J twice as many.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.accuracy.analysis import Analysis
from lingspec.conformance.accuracy.profiles import NAMES, Profile
from lingspec.conformance.case import Call, Case
from lingspec.conformance.contract import (
    Algebra,
    Contract,
    Group,
    Pick,
    Relation,
    TensorSpec,
    Values,
)
from lingspec.conformance.contracts import _rows
from lingspec.reference import swiglu

__all__ = ["SWIGLU"]

DIMS = (8, 1, 2, 3, 16, 33, 64, 96, 100, 128, 255, 256, 257, 512, 0)
FAMILIES = (*values.ROWS, "whole")
# ajar: as the rows; wide: to 100 either way; shut: 0 exactly, and -100; full: 64 and 96, and 0;
# brim: products up to the largest number of float16.
GATES = ("ajar", "wide", "shut", "full", "brim")


def make(case: Case) -> Call:
    """Gates first, then what they let through."""
    a, kind = case.axes, case.traits["values"]
    g = values.rng(case.seed)
    shape = (a["B"], a["T"], a["I"])
    if kind == "whole":
        up = torch.randint(-15, 16, shape, generator=g).double()
    else:
        # Scaled by 2^2 at most, so that no product leaves float16.
        up = values.tokens(kind, shape, g, salt=0, tame=case.dtype == "f16")
    gate, up = _gates(case, up, g)
    tensors = {"gate_up": _rows.floats(case, torch.cat([gate, up], -1), 0, 1)}
    coherent = kind in values.COHERENT or case.traits["gates"] in ("full", "shut")
    return Call(case.op, tensors, {}, coherent, far=values.far_ones(case, tensors))


def _gates(case: Case, up: Tensor, g: Generator) -> tuple[Tensor, Tensor]:
    kind = case.traits["gates"]
    x = torch.randn(up.shape, generator=g, dtype=torch.float64)
    if kind == "wide":
        return 100 * x.clamp(-1, 1), up
    if kind == "shut":
        return torch.where(x > 0, -100.0, 0.0), up
    if kind == "full":
        return torch.where(x > 0.5, 64.0, torch.where(x > -0.5, 96.0, 0.0)), up
    if kind == "brim":  # up to 65,000, and shut gates beside ups of the same size
        gate = torch.where(x > 0, 100 * torch.rand(up.shape, generator=g, dtype=x.dtype), -100.0)
        sign = torch.where(torch.rand(up.shape, generator=g) < 0.5, -1.0, 1.0)
        return gate, sign * 65000 / gate.clamp(min=1.0)
    return x, up


def draw(pick: Pick, law: str, cost: str, dtype: str) -> Case:
    """Structure first, then a value family."""
    dims: Sequence[int] = DIMS if law == "authority" else DIMS[:-1]
    if law == "identities":
        dims = DIMS[2:-1]
    I = pick(dims)  # noqa: E741 - the letter of the specification
    axes = _rows.rows(pick, law, (max(I, 1),), small=cost == "interpreted")
    axes, rank = _rows.ranked(pick, law, {"B": axes["B"], "T": axes["T"], "I": I})
    gates = {"exact": ("full",), "bias": GATES[:1]}.get(law, GATES)
    families = ("normal", "small", "heavy") if law == "bias" else FAMILIES[:-1]
    traits = {
        "values": "whole" if law == "exact" else pick(families), "gates": pick(gates),
        "layout": _rows.layout(pick, law), "rank": rank,
    }  # fmt: skip
    seed = pick(range(0x10000))
    return Case("swiglu", dtype, axes, traits, frozenset(), None, 0, seed, law)


def exact(call: Call, _: Profile) -> frozenset[str]:
    """A gate of 64 or more is wholly open in every format, one of 0 is shut: one product."""
    gate, up = (x.double() for x in call.tensors["gate_up"].chunk(2, dim=-1))
    whole = bool((up == up.round()).all() and (gate == gate.round()).all())
    gates = bool(((gate == 0) | ((gate >= 64) & (gate <= 256))).all())
    held = bool((gate.abs() * up.abs() < 2.0**23).all())
    return frozenset({"y"} if whole and gates and held else ())


def _last_channels(call: Call, _: Generator) -> Call | None:
    """What the last rank of two computes."""
    parts = [x[..., x.shape[-1] // 2 :] for x in call.tensors["gate_up"].chunk(2, dim=-1)]
    return call.with_tensors(gate_up=torch.cat(parts, -1)) if parts[0].shape[-1] else None


def _is_the_end(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(before["y"][..., -after["y"].shape[-1] :], after["y"], rtol=1e-12)


def _twice(call: Call, _: Generator) -> Call | None:
    """All channels once more, behind themselves."""
    gate, up = call.tensors["gate_up"].chunk(2, dim=-1)
    return call.with_tensors(gate_up=torch.cat([gate, gate, up, up], -1))


def _is_twice(before: Values, after: Values, _: Call) -> bool:
    return torch.allclose(torch.cat([before["y"]] * 2, -1), after["y"], rtol=1e-12)


INPUTS = (TensorSpec("gate_up", "BTJ", "input", free=True),)
OUTPUTS = (TensorSpec("y", "BTI", "input"),)
ANALYSIS = Analysis(swiglu, INPUTS, OUTPUTS)

SWIGLU = Contract(
    op="swiglu",
    summary="SiLU of the first half of a row times the second half",
    signature="(gate_up[..., 2I]) -> y[..., I]",
    inputs=INPUTS,
    params={},
    outputs=OUTPUTS,
    positional=("gate_up",),
    mutable=frozenset(),
    axes={"B": (0, 3), "T": (0, 129), "I": (0, 512)},
    traits={"values": FAMILIES, "gates": GATES, "layout": _rows.LAYOUTS, "rank": _rows.RANKS},
    flags=(),
    algebra=Algebra(
        independent=("B", "T"),
        homogeneous_in=(Group(("up",), ("y",)),),
        linear_in=(Group(("up",), ("y",)),),
        unbiased=("y",),
    ),
    exact=exact,
    profiles=dict.fromkeys(("float64", "float32", "bfloat16", "float16"), NAMES),
    silent_on=(
        "inputs that are not finite",
        "results beyond the largest number of the dtype",
        "|gate| > 100",
        "bitwise equality between implementations",
    ),
    make=make,
    authority=ANALYSIS.authority,
    variants=ANALYSIS.variants,
    draw=draw,
    laws=(
        "authority", "permutation", "homogeneity", "additivity", "determinism", "untouched",
        "strides", "exact", "identities", "bias", "shapes", "scale",
    ),
    relations={
        "last": Relation("the last half of the channels", "identities", _last_channels,
                         _is_the_end),
        "twice": Relation("all channels twice", "identities", _twice, _is_twice),
    },
    parts={"up": ("gate_up", -1)},
)  # fmt: skip
