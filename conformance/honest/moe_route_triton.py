"""A right Triton kernel for moe_route."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._moe_triton import Result, route

OP = "moe_route"
PROFILE = {"float32": "fp32"}


@honest(OP, profile=PROFILE, differs="a Triton kernel: one maximum after another")
def routes_a_token_a_program(*call: Any, **options: Any) -> Result:
    return route(*call, **options)
