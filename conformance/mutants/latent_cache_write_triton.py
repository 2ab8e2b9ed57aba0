"""Wrong Triton kernels for writing the latent cache."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla_triton import PROFILES, write

OP = "latent_cache_write"


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="C06 https://github.com/lightseekorg/tokenspeed/pull/700",
    looks_like="slot -1 is clamped to slot 0",
)
def writes_rows_of_padding_to_slot_zero(*call: Any) -> None:
    write(*call, fault="padding wraps")


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="constructed after L01 https://github.com/sgl-project/sglang/issues/20389",
    looks_like="the stride of a page is taken to be that of its rows times their number",
)
def takes_pages_to_lie_end_to_end(*call: Any) -> None:
    write(*call, fault="pages contiguous")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="lanes behind the row are stored over the next row of the page",
)
def stores_lanes_past_the_row(*call: Any) -> None:
    write(*call, fault="lanes unmasked")
