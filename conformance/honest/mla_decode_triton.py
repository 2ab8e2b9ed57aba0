"""Right Triton kernels for MLA decode."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._mla_triton import PROFILES, Result, decode

OP = "mla_decode"


@honest(
    OP,
    profile=PROFILES,
    differs="a Triton kernel of 16 heads a program over blocks of 16 rows",
    nan_safe=True,
)
def decodes_blocks_of_16_rows_in_triton(*call: Any, **options: Any) -> Result:
    return decode(*call, **options)
