"""Decays that are right only as small tests ask for them."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import Tensor, log_decay

OP = "lightning_log_decay"


@mutant(
    OP,
    law="authority",
    source="constructed after the layer origin of vLLM and SGLang",
    looks_like="layers are counted from 0 where the caller does not say",
)
def counts_layers_from_zero_by_default(
    heads: int, layer: int, layers: int, *, origin: int = 0
) -> Tensor:  # fmt: skip
    return log_decay(heads, layer, layers, origin=origin)
