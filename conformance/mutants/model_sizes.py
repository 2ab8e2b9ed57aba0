"""Models that are right where nothing but its own layers is there."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._whole import Whole

Tensor = torch.Tensor
OP = "model"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the layer that predicts a second token is run as a layer of the model",
)
def runs_the_predicting_layer_as_well(
    input_ids: Tensor, weights: Any, config: Any, *, positions: Tensor, cache: Any = None
) -> Tensor:
    class Wrong(Whole):
        def through(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            x = super().through(x, positions, cache)
            for n in range(self.config["num_nextn_predict_layers"]):
                x = self.layer(self.config["num_hidden_layers"] + n).whole(x, positions, None)
            return x

    return Wrong(weights, config).logits(input_ids, positions, cache)
