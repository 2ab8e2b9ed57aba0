"""Routers that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._routing import Result, Tensor, route

OP = "moe_route"


@mutant(
    OP, law="authority", source="constructed after `divides_two_exponentials` of swiglu",
    looks_like="the sigmoid is a quotient of exponentials, of which both overflow from 89 on",
)  # fmt: skip
def divides_two_exponentials_of_a_logit(*call: Any, **options: Any) -> Result:
    def quotient(x: Tensor) -> Tensor:
        return x.exp() / (1 + x.exp())

    return route(*call, **options, score=quotient)


@mutant(
    OP, law="authority", source="constructed",
    looks_like="an expert of logit -inf takes the score of its group along, which is not 0 + bias",
)  # fmt: skip
def masks_groups_with_their_experts(*call: Any, **options: Any) -> Result:
    def score(x: Tensor) -> Tensor:
        return x.sigmoid().masked_fill(x == -torch.inf, -torch.inf)

    return route(*call, **options, score=score)
