"""Rotary tables of other angles or sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import (
    Result,
    Scaling,
    Tensor,
    ends,
    frequencies,
    magnitude,
    mscale,
    plain,
    scaled,
    table,
    turning,
)

OP = "rope_table"


@mutant(
    OP,
    law="authority",
    source="E03 https://github.com/pie-project/pie/issues/602",
    looks_like="the exponent is divided by the whole head, of twice the rotary dims",
)
def divides_the_exponent_by_the_head(positions: Tensor, **options: Any) -> Result:
    def slower(R: int, theta: float, _: Scaling) -> Tensor:
        return plain(2 * R, theta)[: R // 2]

    return table(positions, **options, frequencies=slower)


@mutant(
    OP,
    law="authority",
    source="E11 https://github.com/huggingface/transformers/pull/32330",
    looks_like="scaled frequencies are computed, the old ones returned",
)
def returns_the_old_frequencies(positions: Tensor, **options: Any) -> Result:
    return table(positions, **options, frequencies=lambda R, theta, _: plain(R, theta))


@mutant(
    OP,
    law="authority",
    source="E10 https://github.com/keras-team/keras-hub/pull/2981",
    looks_like="the ramp of YaRN always begins and ends at whole pairs",
)
def always_truncates_the_ramp(positions: Tensor, **options: Any) -> Result:
    def whole(R: int, theta: float, scaling: Scaling) -> Tensor:
        return frequencies(R, theta, scaling and {**scaling, "truncate": True})

    return table(positions, **options, frequencies=whole)


@mutant(
    OP,
    law="authority",
    source="E10 https://github.com/apache/tvm/pull/18576",
    looks_like="the ramp of YaRN is cut off at the last pair, not at the last dim",
)
def cuts_the_ramp_at_the_last_pair(positions: Tensor, **options: Any) -> Result:
    def cut(R: int, theta: float, scaling: Scaling) -> Tensor:
        if scaling is None:
            return plain(R, theta)
        low, high = ends(R, theta, scaling)
        return scaled(plain(R, theta), scaling["factor"], low, min(high, R // 2 - 1))

    return table(positions, **options, frequencies=cut)


@mutant(
    OP,
    law="authority",
    source="E10 https://github.com/huggingface/transformers/issues/38224",
    looks_like="the factor is inside the power: it divides theta's root, not the frequency",
)
def puts_the_factor_inside_the_power(positions: Tensor, **options: Any) -> Result:
    def inside(R: int, theta: float, scaling: Scaling) -> Tensor:
        return plain(R, theta if scaling is None else theta * scaling["factor"])

    return table(positions, **options, frequencies=inside)


@mutant(
    OP,
    law="authority",
    source="E10 https://github.com/vllm-project/vllm/pull/46280",
    looks_like="attention_factor is dropped",
)
def drops_the_attention_factor(positions: Tensor, **options: Any) -> Result:
    def without(scaling: Scaling) -> float:
        return magnitude(scaling and {**scaling, "attention_factor": None})

    return table(positions, **options, magnitude=without)


@mutant(
    OP,
    law="authority",
    source="D02 https://github.com/kekzl/imp/pull/880",
    looks_like="cosines and sines are multiplied by mscale, not by the ratio of both",
)
def multiplies_by_one_mscale(positions: Tensor, **options: Any) -> Result:
    def one(scaling: Scaling) -> float:
        return magnitude(scaling and {**scaling, "mscale": None, "mscale_all_dim": None})

    return table(positions, **options, magnitude=one)


@mutant(
    OP,
    law="authority",
    source="constructed after D01 https://github.com/NVIDIA/Megatron-LM/issues/1429",
    looks_like="mscale alone is taken for a ratio to 1",
)
def takes_mscale_without_its_other(positions: Tensor, **options: Any) -> Result:
    def ratio(scaling: Scaling) -> float:
        if scaling is None or scaling.get("attention_factor") or not scaling.get("mscale"):
            return magnitude(scaling)
        return mscale(scaling["factor"], scaling["mscale"]) / mscale(
            scaling["factor"], scaling.get("mscale_all_dim") or 0.0
        )

    return table(positions, **options, magnitude=ratio)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="beta_fast and beta_slow are exchanged",
)
def exchanges_the_betas(positions: Tensor, **options: Any) -> Result:
    def exchanged(R: int, theta: float, scaling: Scaling) -> Tensor:
        if scaling is None:
            return plain(R, theta)
        fast, slow = scaling.get("beta_fast") or 32, scaling.get("beta_slow") or 1
        return frequencies(R, theta, {**scaling, "beta_fast": slow, "beta_slow": fast})

    return table(positions, **options, frequencies=exchanged)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the betas of a configuration are ignored",
)
def ignores_the_betas(positions: Tensor, **options: Any) -> Result:
    def usual(R: int, theta: float, scaling: Scaling) -> Tensor:
        told: Mapping[str, Any] = {"beta_fast": 32, "beta_slow": 1}
        return frequencies(R, theta, scaling and {**scaling, **told})

    return table(positions, **options, frequencies=usual)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the ramp runs over what a pair turns, not over its number",
)
def runs_the_ramp_over_turns(positions: Tensor, **options: Any) -> Result:
    def over_turns(R: int, theta: float, scaling: Scaling) -> Tensor:
        f = plain(R, theta)
        if scaling is None:
            return f
        turns = f * scaling["original_max_position_embeddings"] / (2 * torch.pi)
        fast, slow = scaling.get("beta_fast") or 32, scaling.get("beta_slow") or 1
        ramp = ((fast - turns) / (fast - slow)).clamp(0, 1)
        made: Tensor = f / scaling["factor"] * ramp + f * (1 - ramp)
        return made

    return table(positions, **options, frequencies=over_turns)


@mutant(
    OP,
    law="authority",
    source="constructed after bailing_moe_linear.py of SGLang @df216e6",
    looks_like="the table ends at 262,144 positions, later ones read its last row",
)
def ends_the_table_at_262144(positions: Tensor, **options: Any) -> Result:
    return table(positions.clamp(max=262_143), **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the table ends one position before 2^20",
)
def ends_the_table_one_position_early(positions: Tensor, **options: Any) -> Result:
    return table(positions.clamp(max=(1 << 20) - 2), **options)


@mutant(
    OP,
    law="authority",
    source="D33 https://github.com/areal-project/AReaL/commit/483a4e86a",
    looks_like="a rank counts its positions from 0",
)
def counts_positions_from_zero(positions: Tensor, **options: Any) -> Result:
    first = positions.min() if positions.numel() else 0
    return table(positions - first, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="angles are rounded to bfloat16 before cosine and sine are taken",
)
def rounds_angles_to_bfloat16(positions: Tensor, **options: Any) -> Result:
    def waves(angle: Tensor) -> Result:
        narrow = angle.to(torch.bfloat16).to(angle.dtype)
        return narrow.cos(), narrow.sin()

    return table(positions, **options, waves=waves)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions are kept in 16 bits",
)
def keeps_positions_in_16_bits(positions: Tensor, **options: Any) -> Result:
    return table(positions % 65_536, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the ramp rounds where low pairs end up, but not where high ones do",
)
def rounds_both_ends_of_the_ramp_down(positions: Tensor, **options: Any) -> Result:
    def down(R: int, theta: float, scaling: Scaling) -> Tensor:
        if scaling is None or not scaling.get("truncate", True):
            return frequencies(R, theta, scaling)
        low, _ = ends(R, theta, scaling)
        context = scaling["original_max_position_embeddings"]
        high = int(turning(scaling.get("beta_slow") or 1, R, theta, context))
        return scaled(plain(R, theta), scaling["factor"], low, min(high, R - 1))

    return table(positions, **options, frequencies=down)
