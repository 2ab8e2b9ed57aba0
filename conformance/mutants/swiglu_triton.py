"""Wrong Triton kernels for swiglu."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows_triton import PROFILES, Tensor, activated

OP = "swiglu"


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed after H05",
    looks_like="ups are looked for behind the padded gates",
)
def looks_for_ups_behind_padded_gates(gate_up: Tensor) -> Tensor:
    return activated(gate_up, fault="padded half")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed",
    looks_like="the sigmoid of a loud gate is a quotient of infinities",
)
def divides_infinities_for_loud_gates(gate_up: Tensor) -> Tensor:
    return activated(gate_up, fault="exponentials")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="B25 https://github.com/ByteDance-Seed/Triton-distributed/issues/180",
    looks_like="the pointer of the result is not advanced from row to row",
)
def does_not_advance_the_row_of_the_result(gate_up: Tensor) -> Tensor:
    return activated(gate_up, fault="first row")
