"""Interleaved rotations that compute something else."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Result, Tensor, halves, interleaved, pairs, rotated
from lingspec.conformance.mutants._rows import NARROW

OP = "interleaved_rope"


@mutant(
    OP,
    law="authority",
    source="D32 https://github.com/NVIDIA/Megatron-LM/issues/1547",
    looks_like="halves are taken for the coordinates, not neighbours",
)
def takes_halves_for_coordinates(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin)


@mutant(
    OP,
    law="authority",
    source="D32 https://github.com/ml-explore/mlx-lm/pull/512",
    looks_like="the result is put back into pairs",
)
def puts_the_result_back_into_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return pairs(interleaved(x, cos, sin))


@mutant(
    OP,
    law="authority",
    source="D32 https://github.com/NVIDIA/TensorRT-LLM/pull/16378",
    looks_like="the result is de-interleaved twice",
)
def deinterleaves_the_result_twice(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return halves(interleaved(x, cos, sin))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="every frequency serves two neighbouring pairs",
)
def repeats_every_frequency(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    c, s = (t.repeat_interleave(2, -1)[..., : t.shape[-1]] for t in (cos, sin))
    return interleaved(x, c, s)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="sine and cosine are exchanged",
)
def exchanges_sine_and_cosine(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(x, sin, cos)


@mutant(
    OP,
    law="authority",
    source="E14 https://github.com/linkedin/Liger-Kernel/commit/d7c78df1",
    looks_like="all sequences have the table of the last",
)
def rotates_by_the_last_sequence(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(x, cos[-1:].expand_as(cos), sin[-1:].expand_as(sin))


@mutant(
    OP,
    law="authority",
    source="E12 https://github.com/fla-org/flash-linear-attention/commit/bd67d117",
    looks_like="the first token of a sequence is skipped, and its row never written",
)
def skips_the_first_token(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype)
    y[:, 1:] = interleaved(x, cos, sin)[:, 1:]
    return y


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the second coordinate is made of the first one, rotated already",
)
def rotates_with_the_rotated_coordinate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    def turn(a: Tensor, b: Tensor, c: Tensor, s: Tensor) -> Result:
        first = a * c - b * s
        return first, b * c + first * s

    return interleaved(x, cos, sin, turn=turn)


@mutant(
    OP,
    law="authority",
    profile=NARROW,
    source="constructed",
    looks_like="the table is kept in eight bits",
)
def keeps_the_table_in_eight_bits(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(x, (cos * 127).round() / 127, (sin * 127).round() / 127)
