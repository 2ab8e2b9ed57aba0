"""Lightning layers that are right for one shape of model: sizes there say more than they mean."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import _rope, _rows, mutant
from lingspec.conformance.mutants._layers import Layer, OneFlag

Tensor = torch.Tensor
OP = "lightning_layer"


def _layer(kind: type[Layer], x: Tensor, weights: Any, config: Any, call: Any) -> Tensor:
    return kind(weights, config, call["layer"]).lightning(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="half of each head is rotated, whatever partial_rotary_factor says",
)
def rotates_half_of_each_head(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return _layer(Layer, x, weights, {**config, "partial_rotary_factor": 0.5}, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the number of groups of the norm is taken to be that of heads, or 1",
)
def normalises_every_head_alone(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    groups = 1 if config["group_norm_size"] == 1 else config["num_attention_heads"]
    return _layer(Layer, x, weights, {**config, "group_norm_size": groups}, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the flag of the bias behind attention decides over those before it",
)
def knows_one_flag_of_biases(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return _layer(OneFlag, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="YaRN's attention_factor is not read",
)
def overlooks_the_attention_factor_of_a_layer(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def table(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
            cos, sin = super().table(x, positions)
            told = (self.config["rope_scaling"] or {}).get("attention_factor")
            if told is None:
                return cos, sin
            left = {k: v for k, v in self.config["rope_scaling"].items() if k != "attention_factor"}
            by = _rope.magnitude(left) / told
            return cos * by, sin * by

    return _layer(Wrong, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="of 2^n heads the slopes begin at 1",
)
def begins_the_slopes_of_two_to_the_n_heads_at_one(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def log_decay(self) -> Tensor:
            made, H = super().log_decay(), self.config["num_attention_heads"]
            return made * 2 ** (8 / H) if H & (H - 1) == 0 else made

    return _layer(Wrong, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the gate is cut into heads where there are as many groups, else it is shifted",
)
def gates_groups_by_the_channels_of_heads(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    class Wrong(Layer):
        def gated(self, o: Tensor, gate: Tensor) -> Tensor:
            groups, H = self.config["group_norm_size"], self.config["num_attention_heads"]
            if groups > H:  # a group is less than a head: only heads are known
                y = _rows.parted(o, H)
                y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"])
                weight = self.weights["attention.g_norm.weight"]
                return y.flatten(-2) * weight * torch.sigmoid(gate)
            return super().gated(o, gate)

    return _layer(Wrong, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="decays are those of a model of sixteen layers where there are more",
)
def counts_sixteen_layers_at_most(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def log_decay(self) -> Tensor:
            c = self.config
            self.config = {**c, "num_hidden_layers": min(c["num_hidden_layers"], 16)}
            made = super().log_decay()
            self.config = c
            return made

    return _layer(Wrong, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="heads from the 16th on take the decays of the first",
)
def holds_the_decays_of_sixteen_heads(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def log_decay(self) -> Tensor:
            made = super().log_decay()
            return made[torch.arange(len(made)) % 16]

    return _layer(Wrong, x, weights, config, call)
