"""The contract of mla_layer: the attention of an MLA layer, norm and residual addition apart."""

from __future__ import annotations

import functools

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
from lingspec.reference.layers import mla_layer

__all__ = ["MLA_LAYER"]

ABSORBED = functools.partial(mla_layer, absorbed=True)

MLA_LAYER = contract_of(
    Composite("mla_layer", mla_layer, (1, 3, 4), routes=False, others=(ABSORBED,)),
    summary="the attention of an MLA layer, norm and residual addition apart",
    signature=f"{SIGNATURE}; cache.rows",
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
