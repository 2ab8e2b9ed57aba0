"""Right Triton kernels for merging attentions."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._mla_triton import Result, merge

OP = "merge_attention"
PROFILES = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@honest(OP, profile=PROFILES, differs="a Triton kernel of 32 rows a program")
def merges_rows_in_triton(*call: Any, **options: Any) -> Result:
    return merge(*call, **options)
