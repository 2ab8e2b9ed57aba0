"""MLA layers that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import as_if_dense
from lingspec.conformance.mutants._layers import Layer, narrow
from lingspec.conformance.mutants._mla import attention, hidden

Tensor = torch.Tensor
OP = "mla_layer"
MOST = 100.0


@mutant(
    OP,
    law="authority",
    source="constructed after caches of 16 bits",
    looks_like="rows of the cache are kept in bfloat16, whatever the activations are",
)
def keeps_rows_of_the_cache_in_bfloat16(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def rows(self, x: Tensor, positions: Tensor) -> Tensor:
            return narrow(super().rows(x, positions))

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="what the queries are made of is clamped at 100",
)
def clamps_what_queries_are_made_of_at_100(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def queries(self, x: Tensor, positions: Tensor) -> Tensor:
            return super().queries(x.clamp(-MOST, MOST), positions)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed after masks that are read off activations",
    looks_like="tokens of zeros are taken for padding, which no query sees",
)
def hides_tokens_of_zeros_as_padding(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def mla(self, x: Tensor, positions: Tensor, cache: Any) -> Tensor:
            q, rows = self.queries(x, positions), self.rows(x, positions)
            if cache is not None:
                rows = cache.rows = torch.cat([cache.rows, rows], dim=1)
            made = [self.seen(b, q, rows, (x[b] == 0).all(-1)) for b in range(len(x))]
            o = torch.cat(made) if made else q.new_zeros(*q.shape[:3], self.config["v_head_dim"])
            return self.linear(o.flatten(2), "attention.dense")

        def seen(self, b: int, q: Tensor, rows: Tensor, gone: Tensor) -> Tensor:
            def masked(T: int, S: int) -> Tensor:
                before = torch.zeros(S - T, dtype=torch.bool)
                return hidden(T, S) | torch.cat([before, gone])

            k, v = self.expanded(rows[b : b + 1])
            return attention(q[b : b + 1], k, v, scale=self.scale(), hidden=masked)[0]

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the activations are taken to be neighbours in memory",
)
def takes_channels_that_are_cached_for_neighbours(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    return Layer(weights, config, call["layer"]).mla(
        as_if_dense(x), call["positions"], call.get("cache")
    )
