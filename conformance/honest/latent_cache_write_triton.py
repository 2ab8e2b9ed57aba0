"""Right Triton kernels for writing the latent cache."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._mla_triton import PROFILES, write

OP = "latent_cache_write"


@honest(OP, profile=PROFILES, differs="a Triton kernel that moves integers, one row a program")
def writes_rows_as_integers_in_triton(*call: Any, **options: Any) -> None:
    write(*call, **options)
