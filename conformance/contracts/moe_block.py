"""The contract of moe_block: the experts of a layer, between its norm and the residual addition."""

from __future__ import annotations

from lingspec.conformance.accuracy.profiles import NAMES
from lingspec.conformance.contract import Algebra
from lingspec.conformance.contracts._composite import (
    FAMILIES,
    LAYOUTS,
    Composite,
    contract_of,
)  # fmt: skip
from lingspec.conformance.contracts._configs import CONFIGS
from lingspec.reference.layers import moe_block

__all__ = ["MOE_BLOCK"]

MOE_BLOCK = contract_of(
    Composite("moe_block", moe_block, (1, 2, 4), cached=False),
    summary="the experts of a layer, between its norm and the residual addition",
    signature="(x[B,T,D], weights, config, *, layer, positions[B,T], cache=None) -> y[B,T,D]",
    traits={"config": tuple(CONFIGS), "values": FAMILIES, "layout": LAYOUTS},
    algebra=Algebra(
        independent=("B", "T"),
    ),
    profiles=dict.fromkeys(("float64", "float32"), NAMES),
    silent_on=(
        "activations of 16 bits: of a whole layer limits say little there; traces do",
        "inputs and weights that are not finite",
        "tokens whose experts no margin decides",
        "weights that are not contiguous",
    ),
    laws=("authority", "permutation", "determinism", "untouched", "strides", "shapes"),
    relations={},
)
