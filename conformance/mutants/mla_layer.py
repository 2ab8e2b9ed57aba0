"""Wrong implementations of mla_layer."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._layers import Layer
from lingspec.conformance.mutants._rope import pairs, rotated

Tensor = torch.Tensor
OP = "mla_layer"


@mutant(
    OP,
    law="authority",
    source="D22 mlx-lm 0.32.2 MultiLatentAttention",
    looks_like="the norms of the latents have the eps of the model",
)
def takes_the_eps_of_the_model_for_latents(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def latent_norm(self, latent: Tensor, name: str) -> Tensor:
            return self.norm(latent, f"attention.{name}_layernorm")

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the latent of keys and values is not normalised",
)
def leaves_the_latent_of_keys_as_it_is(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def latent_norm(self, latent: Tensor, name: str) -> Tensor:
            return latent if name == "kv_a" else super().latent_norm(latent, name)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="D32 https://github.com/ml-explore/mlx-lm/pull/512",
    looks_like="the two halves of the rotary dims are rotated, not neighbours",
)
def rotates_halves_where_pairs_are_meant(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def queries(self, x: Tensor, positions: Tensor) -> Tensor:
            R, q = self.config["qk_rope_head_dim"], super().queries(x, torch.zeros_like(positions))
            rope = pairs(q[..., -R:])  # as they were: position 0 does not rotate, in plain rope
            return torch.cat([q[..., :-R], rotated(rope, *self.table(x, positions))], dim=-1)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="D01 https://github.com/onnxruntime/mobius/pull/548",
    looks_like="scores are not multiplied by the square of mscale",
)
def forgets_yarn_in_the_scale_of_a_layer(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def scale(self) -> float:
            c = self.config
            return float((c["qk_nope_head_dim"] + c["qk_rope_head_dim"]) ** -0.5)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="D05 https://github.com/ollama/ollama/pull/13893",
    looks_like="scores are scaled by the width of a cached row",
)
def scales_by_the_rank_of_the_latent(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def scale(self) -> float:
            return float((self.config["kv_lora_rank"] + self.config["qk_rope_head_dim"]) ** -0.5)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the expanded rows of a head are taken to be values, then keys",
)
def expands_values_before_keys(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def expanded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            k, v = super().expanded(rows)
            N, V = self.config["qk_nope_head_dim"], self.config["v_head_dim"]
            both = torch.cat([k[..., :N], v], dim=-1)
            return torch.cat([both[..., V:], k[..., N:]], dim=-1), both[..., :V]

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the shared rotated key is weighed head by head",
)
def gives_every_head_a_rotated_key_of_its_own(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def expanded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            k, v = super().expanded(rows)
            R, H = self.config["qk_rope_head_dim"], k.shape[2]
            k[..., -R:] *= torch.arange(1, H + 1, dtype=k.dtype)[:, None]
            return k, v

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="handover",
    source="constructed",
    looks_like="rows of earlier tokens are normalised once more when they are read",
)
def caches_rows_before_their_norm(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def expanded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            L, cache = self.config["kv_lora_rank"], call.get("cache")
            if cache is not None:
                rows = torch.cat([self.latent_norm(rows[..., :L], "kv_a"), rows[..., L:]], dim=-1)
            return super().expanded(rows)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="causality",
    source="D26 as of a layer",
    looks_like="every token sees all keys",
)
def lets_tokens_see_the_whole_prompt(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def hidden(self, T: int, S: int) -> Tensor:
            return torch.zeros(T, S, dtype=torch.bool)

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions are kept in a format in which large ones are rounded",
)
def rotates_queries_by_rounded_positions(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def queries(self, x: Tensor, positions: Tensor) -> Tensor:
            return super().queries(x, positions.half().to(positions.dtype))

    return Wrong(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))
