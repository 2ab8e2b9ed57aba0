"""Wrong Triton kernels for partial_rope."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope_triton import rotated
from lingspec.conformance.mutants._rows_triton import PROFILES, Tensor

OP = "partial_rope"


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="E05 https://github.com/gittensor-ai-lab/sparkinfer/pull/518",
    looks_like="the kernel stores no dims behind the rotated ones",
)
def stores_no_dims_behind_the_rotated_ones(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin, fault="rest dropped")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="E14 https://github.com/linkedin/Liger-Kernel/commit/d7c78df1",
    looks_like="the kernel reads the table of the first sequence",
)
def reads_the_table_of_the_first_sequence(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin, fault="first sequence")


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="constructed after L02 https://github.com/fla-org/flash-linear-attention/commit/854c4ce9",
    looks_like="offsets of tokens are kept in 32 bits",
)
def keeps_offsets_of_tokens_in_32_bits(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin, fault="int32 offsets")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="E03 https://github.com/apple/coreai-models/issues/66",
    looks_like="the kernel pairs dims over the whole head",
)
def pairs_lanes_over_the_whole_head(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotated(x, cos, sin, fault="whole head")
