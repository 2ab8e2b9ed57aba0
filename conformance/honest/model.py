"""Right implementations of model."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest._layers import All
from lingspec.conformance.mutants._whole import Whole

Tensor = torch.Tensor


@honest("model", differs="as the lines are written")
def model_as_written(
    input_ids: Tensor, weights: Any, config: Any, *, positions: Tensor, cache: Any = None
) -> Tensor:
    return Whole(weights, config).logits(input_ids, positions, cache)


@honest("model", differs="chunks, the latent space, all experts; the head by rows")
def model_in_other_orders(
    input_ids: Tensor, weights: Any, config: Any, *, positions: Tensor, cache: Any = None
) -> Tensor:
    class Other(Whole):
        kind = All

        def logits(self, ids: Tensor, positions: Tensor, cache: Any) -> Tensor:
            x = self.normed(self.through(self.embedded(ids), positions, cache))
            return torch.cat([x @ part.mT for part in torch.split(self.head(), 5)], dim=-1)

    return Other(weights, config).logits(input_ids, positions, cache)
