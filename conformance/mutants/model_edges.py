"""Models that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Coarse, narrow
from lingspec.conformance.mutants._whole import Whole

Tensor = torch.Tensor
OP = "model"


def _run(kind: type[Whole], given: tuple[Any, ...], call: dict[str, Any]) -> Tensor:
    ids, weights, config = given
    return kind(weights, config).logits(ids, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed after autocast",
    looks_like="activations are rounded to bfloat16 behind the last layer",
)
def keeps_activations_between_layers_in_bfloat16(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def through(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            return narrow(super().through(x, positions, cache))

    return _run(Wrong, given, call)


@mutant(
    OP,
    law="authority",
    source="constructed after models whose token 0 is padding",
    looks_like="token 0 is taken for padding, and has an embedding of zeros",
)
def takes_the_first_token_id_for_padding(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def embedded(self, ids: Tensor) -> Tensor:
            return super().embedded(ids) * (ids != 0)[..., None]

    return _run(Wrong, given, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="experts are chosen by scores of six bits, though a smaller margin decides",
)
def chooses_experts_of_all_layers_by_six_bits(*given: Any, **call: Any) -> Tensor:
    return _run(type("Wrong", (Whole,), {"kind": Coarse}), given, call)


@mutant(
    OP,
    law="authority",
    source="constructed after F18 https://github.com/sgl-project/sglang/issues/32807",
    looks_like="weights of the head are held as fixed-point numbers below 1",
)
def holds_weights_of_the_head_below_one(*given: Any, **call: Any) -> Tensor:
    class Wrong(Whole):
        def head(self) -> Tensor:
            return super().head().clamp(-1.0, 1.0)

    return _run(Wrong, given, call)
