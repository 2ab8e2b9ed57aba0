"""Wrong implementations of mtp_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor
OP = "mtp_layer"


@mutant(
    OP,
    law="authority",
    source="K07 https://github.com/ml-explore/mlx-lm/pull/1469",
    looks_like="the hidden state stands before the embedding",
)
def joins_the_hidden_state_first(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def joined(self, x: Tensor, embedded: Tensor) -> Tensor:
            return torch.cat(super().joined(x, embedded).chunk(2, dim=-1)[::-1], dim=-1)

    return Wrong(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="K07 as of the norms",
    looks_like="the norms of embedding and hidden state are exchanged",
)
def exchanges_the_norms_of_both_inputs(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def joined(self, x: Tensor, embedded: Tensor) -> Tensor:
            return torch.cat([self.norm(embedded, "hnorm"), self.norm(x, "enorm")], dim=-1)

    return Wrong(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="K07 https://github.com/ROCm/ATOM/pull/1764",
    looks_like="the hidden state is joined as it is",
)
def joins_the_hidden_state_without_its_norm(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def joined(self, x: Tensor, embedded: Tensor) -> Tensor:
            return torch.cat([self.norm(embedded, "enorm"), x], dim=-1)

    return Wrong(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="K07 https://github.com/ikawrakow/ik_llama.cpp/pull/1815",
    looks_like="the last norm is left out",
)
def returns_the_state_before_the_last_norm(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def norm(self, x: Tensor, name: str, eps: float | None = None) -> Tensor:
            return x if name == "final_layernorm" else super().norm(x, name, eps)

    return Wrong(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="K07 as of the tokens",
    looks_like="embeddings are those of the tokens themselves",
)
def takes_the_token_at_the_same_place(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def joined(self, x: Tensor, embedded: Tensor) -> Tensor:
            return super().joined(x, torch.cat([embedded[:, :1], embedded[:, :-1]], dim=1))

    return Wrong(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions are those of the tokens one later, where the cache begins",
)
def counts_positions_of_the_next_tokens(
    x: Tensor, embedded: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def rows(self, x: Tensor, positions: Tensor) -> Tensor:
            return super().rows(x, positions + 1)

    return Wrong(weights, config, call["layer"]).next_token(
        x, embedded, call["positions"], call.get("cache")
    )
