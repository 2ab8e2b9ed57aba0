"""Wrong Triton kernels for rms_norm."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows_triton import PROFILES, Tensor, norm

OP = "rms_norm"


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="F14 https://github.com/linkedin/Liger-Kernel/commit/f4a51fb8",
    looks_like="lanes behind the row hold the next row and enter its mean",
)
def adds_up_the_lanes_of_the_next_row(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps, fault="lanes unmasked")[0]


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="constructed after L01",
    looks_like="offsets of rows are multiplied in 32 bits",
)
def computes_offsets_of_norm_rows_in_32_bits(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps, fault="int32 offsets")[0]


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="constructed",
    looks_like="the stride of channels is taken to be 1",
)
def takes_the_stride_of_channels_to_be_one(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps, fault="unit stride")[0]


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed",
    looks_like="channels behind the last whole vector of 16 are not stored",
)
def stores_whole_vectors_of_channels_only(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps, fault="no tail")[0]
