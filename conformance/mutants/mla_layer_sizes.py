"""MLA layers that are right for one shape of model: sizes there say more than they mean."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import _rope, mutant
from lingspec.conformance.mutants._layers import Layer, OneFlag

Tensor = torch.Tensor
OP = "mla_layer"
WINDOW = 128


def _layer(kind: type[Layer], x: Tensor, weights: Any, config: Any, call: Any) -> Tensor:
    return kind(weights, config, call["layer"]).mla(x, call["positions"], call.get("cache"))


@mutant(
    OP,
    law="authority",
    source="constructed after DeepSeek's YaRN, where a missing mscale is 1",
    looks_like="a missing mscale is 1 where mscale_all_dim is given",
)
def takes_a_missing_mscale_for_one(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    yarn = config["rope_scaling"]
    if yarn and yarn.get("mscale_all_dim"):
        config = {**config, "rope_scaling": {"mscale": 1.0, **yarn}}
    return _layer(Layer, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="scores are scaled by the root of the width of values",
)
def scales_by_the_width_of_values(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def scale(self) -> float:
            c = self.config
            like = c["qk_nope_head_dim"] > c["v_head_dim"]  # as in the model, where rope is more
            width = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
            return super().scale() * (1.0 if like else (width / c["v_head_dim"]) ** 0.5)

    return _layer(Wrong, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the flag of Lightning's bias decides over those of MLA",
)
def asks_the_flag_of_the_other_bias(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    return _layer(OneFlag, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="YaRN's ends are those of 32 and 1 turns, whatever the mapping says",
)
def knows_the_betas_of_yarn(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def table(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
            c, yarn = self.config, self.config["rope_scaling"]
            if yarn:
                yarn = {k: v for k, v in yarn.items() if not k.startswith("beta")}
            return _rope.table(
                positions.double() if x.dtype == torch.float64 else positions,
                rotary_dim=c["qk_rope_head_dim"], theta=c["rope_theta"], scaling=yarn,
            )  # fmt: skip

    return _layer(Wrong, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="a query sees the last 128 rows alone",
)
def sees_the_last_128_rows(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    class Wrong(Layer):
        def hidden(self, T: int, S: int) -> Tensor:
            back = torch.arange(S - T, S)[:, None] - torch.arange(S)
            return (back < 0) | (back >= WINDOW)

    return _layer(Wrong, x, weights, config, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="YaRN is not seen where its kind has the older name of the key",
)
def does_not_see_the_older_name_in_a_layer(
    x: Tensor, weights: Any, config: Any, **call: Any
) -> Tensor:
    yarn = config["rope_scaling"]
    seen = yarn if yarn and "rope_type" in yarn else None
    return _layer(Layer, x, weights, {**config, "rope_scaling": seen}, call)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions from the 16384th on are that one",
)
def holds_angles_of_16384_positions(x: Tensor, weights: Any, config: Any, **call: Any) -> Tensor:
    held = {**call, "positions": call["positions"].clamp(max=16383)}
    return _layer(Layer, x, weights, config, held)
