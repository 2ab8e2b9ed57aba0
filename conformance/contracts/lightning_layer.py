"""The contract of lightning_layer: the attention of a Lightning layer, norm and addition apart."""

from __future__ import annotations

from lingspec.conformance.accuracy.profiles import NAMES
from lingspec.conformance.contract import Algebra
from lingspec.conformance.contracts._composite import (
    FAMILIES,
    LAYOUTS,
    SIGNATURE,
    Composite,
    contract_of,
    shifted,
)  # fmt: skip
from lingspec.conformance.contracts._configs import CONFIGS
from lingspec.reference.layers import lightning_layer

__all__ = ["LIGHTNING_LAYER"]

LIGHTNING_LAYER = contract_of(
    Composite("lightning_layer", lightning_layer, (0, 2), routes=False),
    summary="the attention of a Lightning layer, norm and residual addition apart",
    signature=f"{SIGNATURE}; cache.state",
    traits={"config": tuple(CONFIGS), "values": FAMILIES, "layout": LAYOUTS},
    algebra=Algebra(
        causal="T",
        bitwise=False,
        stateful="T",
        state=(("cache.state", "cache.state"),),
        independent=("B",),
    ),
    profiles=dict.fromkeys(("float64", "float32"), NAMES),
    silent_on=(
        "activations of 16 bits: of a whole layer limits say little there; traces do",
        "inputs and weights that are not finite",
        "padding",
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
