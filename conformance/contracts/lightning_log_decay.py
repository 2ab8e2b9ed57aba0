"""The contract of lightning_log_decay: bits, not limits."""

from __future__ import annotations

from torch import Tensor

from lingspec.conformance.accuracy.formats import FP32
from lingspec.conformance.accuracy.limits import Limits, limits
from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.case import Call, Case, CaseError
from lingspec.conformance.contract import Algebra, Contract, Pick, TensorSpec
from lingspec.reference import lightning_log_decay

__all__ = ["LIGHTNING_LOG_DECAY"]


def make(case: Case) -> Call:
    """The four numbers."""
    a = case.axes
    if not a["L"] < a["N"] or a["N"] < 2 or a["O"] > 1:
        raise CaseError(f"case {str(case)!r} must have N of 2 or more, L below N, and O of 0 or 1")
    params = {"heads": a["H"], "layer": a["L"], "layers": a["N"]}
    if a["O"] != 1 or a["L"] % 2:  # the default is part of the signature
        params["origin"] = a["O"]
    return Call(case.op, {}, params)


def authority(call: Call, profile: Profile) -> dict[str, Limits]:
    """The bits that the result must have."""
    made = lightning_log_decay(**call.params)
    return {"log_decay": limits("log_decay", [made.double()], profile, FP32, coherent=True)}


def variants(call: Call, profile: Profile) -> list[dict[str, Tensor]]:  # noqa: ARG001 - bits have none
    """There is one right answer."""
    return []


def draw(pick: Pick, law: str, _cost: str, dtype: str) -> Case:
    """Head counts that are powers of two and that are not; every layer of models of any depth."""
    heads = pick(pick(((64, 32, 16, 40, 6), range(1, 131))))
    layers = pick(pick(((80, 32, 20, 2), range(2, 97))))
    layer = pick(pick(((0, layers - 1), range(layers))))
    axes = {"H": heads, "L": layer, "N": layers, "O": pick((1, 0))}
    return Case("lightning_log_decay", dtype, axes, law=law)


LIGHTNING_LOG_DECAY = Contract(
    op="lightning_log_decay",
    summary="the decay of each head of a Lightning layer",
    signature="(heads, layer, layers, *, origin=1) -> log_decay[H] float32",
    inputs=(),
    params={"heads": ">= 1", "layer": "from 0", "layers": ">= 2", "origin": "0 or 1"},
    outputs=(TensorSpec("log_decay", "H", "state"),),
    positional=(),
    mutable=frozenset(),
    axes={"H": (1, 130), "L": (0, 95), "N": (2, 96), "O": (0, 1)},
    traits={},
    flags=(),
    algebra=Algebra(bits=True),
    profiles={"float32": ("fp32",)},
    silent_on=("the device of the result",),
    make=make,
    authority=authority,
    variants=variants,
    draw=draw,
    laws=("authority", "determinism", "untouched"),
)
