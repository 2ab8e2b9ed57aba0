"""Wrong Triton kernels for interleaved_rope."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope_triton import rotated
from lingspec.conformance.mutants._rows_triton import PROFILES, Tensor

OP = "interleaved_rope"


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed",
    looks_like="the second coordinate reads the first one back",
)
def reads_the_first_coordinate_back(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin, pairs=True, fault="in place")


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="constructed after L02 https://github.com/fla-org/flash-linear-attention/commit/854c4ce9",
    looks_like="offsets of pairs are kept in 32 bits",
)
def keeps_offsets_of_pairs_in_32_bits(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin, pairs=True, fault="int32 offsets")
