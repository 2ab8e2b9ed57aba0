"""Wrong implementations of mla_layer that are right for the usual numbers and positions."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer
from lingspec.conformance.mutants._memory import on_the_object

Tensor = torch.Tensor
OP = "mla_layer"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the base of the angles is 600000, whatever the configuration says",
)
def knows_the_base_of_the_angles(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    usual = {**config, "rope_theta": 600000.0}
    return Layer(weights, usual, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="cosines and sines are not multiplied by YaRN's mscale / mscale_all_dim",
)
def leaves_out_the_magnitude_of_yarn(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    yarn = config["rope_scaling"]
    usual = {**config, "rope_scaling": yarn and {**yarn, "mscale": yarn["mscale_all_dim"]}}
    return Layer(weights, usual, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="with a cache, positions are counted from its rows",
)
def counts_positions_from_the_cache(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    cache, positions = call.get("cache"), call["positions"]
    if cache is not None:
        positions = (cache.rows.shape[1] + torch.arange(x.shape[1])).expand(x.shape[:2])
    return Layer(weights, config, call["layer"]).mla(x, positions, cache)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions are the first one and those that follow it",
)
def counts_positions_from_the_first(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    positions = call["positions"]
    if positions.numel():
        positions = positions[:, :1] + torch.arange(x.shape[1])
    return Layer(weights, config, call["layer"]).mla(x, positions, call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="with a cache, all rows of a batch have the positions of the first",
)
def gives_all_rows_the_positions_of_the_first(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    cache, positions = call.get("cache"), call["positions"]
    if cache is not None:
        positions = positions[:1].expand(positions.shape)
    return Layer(weights, config, call["layer"]).mla(x, positions, cache)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions of 32 bits are read as pairs of 64 bits",
)
def reads_positions_as_64_bits(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    positions = call["positions"].contiguous()
    if positions.dtype == torch.int32:
        flat = positions.flatten()
        pairs = flat[0::2][: len(flat) // 2] + 0 * flat[1::2]  # the low halves of what is there
        positions = torch.cat([pairs, pairs, flat])[: len(flat)].view(positions.shape)
    return Layer(weights, config, call["layer"]).mla(x, positions, call.get("cache"))


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="the split weight of keys and values is kept on its tensor",
)
def keeps_the_weight_of_keys_and_values(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def expanded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            name = "attention.kv_b_proj.weight"
            self.weights[name] = on_the_object(self.weights[name], self.weights[name].clone)
            return super().expanded(rows)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))
