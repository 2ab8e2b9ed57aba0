"""The contract of mtp_layer: the layer that predicts the token after the next one."""

from __future__ import annotations

from lingspec.conformance.accuracy.profiles import NAMES
from lingspec.conformance.contract import Algebra
from lingspec.conformance.contracts._composite import (
    FAMILIES,
    LAYOUTS,
    Composite,
    contract_of,
    shifted,
)  # fmt: skip
from lingspec.conformance.contracts._configs import CONFIGS
from lingspec.reference.layers import mtp_layer

__all__ = ["MTP_LAYER"]

MTP_LAYER = contract_of(
    Composite("mtp_layer", mtp_layer, (5,), embedded=True),
    summary="the layer that predicts the token after the next one",
    signature="(x[B,T,D], embedded[B,T,D], weights, config, *, layer, positions[B,T], "
    "cache=None) -> y[B,T,D]; cache.rows",
    traits={"config": tuple(CONFIGS), "values": FAMILIES, "layout": LAYOUTS},
    algebra=Algebra(
        causal="T",
        bitwise=False,
        stateful="T",
        state=(("cache.rows", "cache.rows"),),
        independent=("B",),
    ),
    profiles=dict.fromkeys(("float64", "float32"), NAMES),
    silent_on=(
        "activations of 16 bits: of a whole layer limits say little there; traces do",
        "inputs and weights that are not finite",
        "padding",
        "tokens whose experts no margin decides",
        "weights that are not contiguous",
    ),
    laws=(
        "authority",
        "causality",
        "handover",
        "permutation",
        "determinism",
        "untouched",
        "strides",
        "invariance",
        "shapes",
    ),
    relations={"shifted": shifted},
)
