"""Right Triton kernels for MLA attention."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._mla_triton import PROFILES, Result, attend

OP = "mla_attention"


@honest(
    OP,
    profile={"bfloat16": PROFILES["bfloat16"]},
    differs="a Triton kernel over tiles of 64 queries and 16 keys",
)
def runs_tiles_of_16_keys_in_triton(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, queries=64)


@honest(
    OP,
    profile={dtype: PROFILES[dtype] for dtype in ("float32", "float16")},
    differs="a Triton kernel over tiles of 64 queries and 32 keys",
)
def runs_tiles_of_32_keys_in_triton(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, queries=64, keys=32)
