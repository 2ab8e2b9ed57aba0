"""The contract of decoder_layer: one layer of the model."""

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
from lingspec.reference.layers import decoder_layer

__all__ = ["DECODER_LAYER"]

DECODER_LAYER = contract_of(
    Composite("decoder_layer", decoder_layer, (0, 1, 2, 3, 4)),
    summary="one layer of the model",
    signature=f"{SIGNATURE}; cache.state or cache.rows",
    traits={"config": tuple(CONFIGS), "values": FAMILIES, "layout": LAYOUTS},
    algebra=Algebra(
        causal="T",
        bitwise=False,
        stateful="T",
        state=(("cache.state", "cache.state"), ("cache.rows", "cache.rows")),
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
