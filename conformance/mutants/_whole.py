"""The whole of Ling 2.5 in right lines; a mutant replaces one of them.

B batch, T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lingspec.conformance.mutants import _rows
from lingspec.conformance.mutants._layers import Layer

__all__ = ["Whole"]

Tensor = torch.Tensor


class Whole:
    """The weights and the configuration of a model, and what it computes."""

    kind: type[Layer] = Layer

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]):
        self.weights, self.config = weights, config

    def embedded(self, ids: Tensor) -> Tensor:
        """(B, T) to (B, T, D)."""
        return self.weights["model.word_embeddings.weight"][ids]

    def layer(self, number: int) -> Layer:
        """One of the layers."""
        return self.kind(self.weights, self.config, number)

    def through(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """All layers, in order."""
        for n in range(self.config["num_hidden_layers"]):
            x = self.layer(n).whole(x, positions, None if cache is None else cache[n])
        return x

    def normed(self, x: Tensor) -> Tensor:
        """The norm behind the last layer."""
        weight = self.weights["model.norm.weight"]
        return _rows.norm(x, weight, eps=self.config["rms_norm_eps"])

    def head(self) -> Tensor:
        """(V, D)."""
        tied = self.config["tie_word_embeddings"]
        return self.weights["model.word_embeddings.weight" if tied else "lm_head.weight"]

    def logits(self, ids: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """(B, T) to (B, T, V)."""
        return self.normed(self.through(self.embedded(ids), positions, cache)) @ self.head().mT
