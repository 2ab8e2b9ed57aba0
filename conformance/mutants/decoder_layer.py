"""Wrong implementations of decoder_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer

Tensor = torch.Tensor
OP = "decoder_layer"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the residual is what came out of the norm",
)
def adds_what_was_normalised(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def whole(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            return super().whole(self.norm(x, "input_layernorm"), positions, cache)

    return Wrong(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed after parallel residuals",
    looks_like="the MLP reads what the attention reads",
)
def runs_attention_and_experts_side_by_side(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def whole(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            y = x + self.attended(self.norm(x, "input_layernorm"), positions, cache)
            return y + self.fed(self.norm(x, "post_attention_layernorm"))

    return Wrong(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the two norms of a layer are exchanged",
)
def exchanges_both_norms_of_a_layer(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def norm(self, x: Tensor, name: str, eps: float | None = None) -> Tensor:
            first, second = "input_layernorm", "post_attention_layernorm"
            return super().norm(x, {first: second, second: first}.get(name, name), eps)

    return Wrong(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed after post-norm layers",
    looks_like="the second norm is of the result of the attention, not of the sum",
)
def normalises_behind_the_attention(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def whole(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            y = self.attended(self.norm(x, "input_layernorm"), positions, cache)
            h = x + y
            return h + self.fed(self.norm(y, "post_attention_layernorm"))

    return Wrong(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="what the MLP returns is not added to anything",
)
def drops_the_residual_behind_the_experts(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def whole(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            h = x + self.attended(self.norm(x, "input_layernorm"), positions, cache)
            return self.fed(self.norm(h, "post_attention_layernorm"))

    return Wrong(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the MLP of the last token reads the first",
)
def feeds_the_first_token_of_a_row_alone_again(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def fed(self, x: Tensor) -> Tensor:
            return super().fed(torch.cat([x[:, :-1], x[:, :1]], dim=1))

    return Wrong(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="permutation",
    source="constructed after E14",
    looks_like="every sequence continues the cache of the first",
)
def reads_the_cache_of_the_first_sequence(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def attended(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            for name in ("state", "rows"):
                kept = None if cache is None else getattr(cache, name, None)
                if kept is not None and len(kept):
                    setattr(cache, name, kept[:1].expand_as(kept).clone())
            return super().attended(x, positions, cache)

    return Wrong(weights, config, call["layer"]).whole(x, call["positions"], call.get("cache"))
