"""Right Triton kernels for swiglu."""

from __future__ import annotations

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._rows_triton import PROFILES, Tensor, activated

OP = "swiglu"


@honest(
    OP,
    profile=PROFILES,
    differs="a Triton kernel of 16 rows and 128 channels a program, one rounding",
)
def activates_tiles_of_128_channels(gate_up: Tensor) -> Tensor:
    return activated(gate_up)
