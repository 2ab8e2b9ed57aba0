"""Routers that are right wherever nothing but single calls of usual size are looked at."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._memory import (
    another_way,
    as_if_rows,
    kept_buffer,
    remembered,
    scratch_is_set,
    sums,
)
from lingspec.conformance.mutants._routing import Result, Tensor, normalised, route

OP = "moe_route"


@mutant(
    OP, law="authority",
    source="constructed after H04 https://github.com/linkedin/Liger-Kernel/commit/0f66f7ec",
    looks_like="no tokens give one row",
)  # fmt: skip
def gives_a_row_where_there_are_no_tokens(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    if not len(logits):
        logits = logits.new_zeros(1, logits.shape[1])
    return route(logits, bias, **options)


_results: dict[Any, Result] = {}


@mutant(
    OP, law="permutation", source="constructed after caches keyed by a checksum",
    looks_like="results are kept under a checksum that does not know the order of tokens",
)  # fmt: skip
def keeps_results_under_a_sum_over_tokens(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    key = sums(logits), tuple(bias.tolist()), tuple(options.values()), logits.dtype
    made: Result = remembered(_results, key, lambda: route(logits, bias, **options))
    return made


def another_order(weights: Tensor) -> Tensor:
    """Divided by a sum from the other end."""
    return normalised(weights.flip(-1)).flip(-1) * (1 + torch.finfo(weights.dtype).eps)


@mutant(
    OP, law="determinism",
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="the order of summation depends on memory that nobody has written",
)  # fmt: skip
def orders_the_sum_by_what_memory_holds(*call: Any, **options: Any) -> Result:
    norm = another_order if scratch_is_set() else normalised
    return route(*call, **options, norm=norm)


_seen: set[Any] = set()


@mutant(
    OP, law="shapes", source="constructed after autotuners that count calls",
    looks_like="the order of summation depends on which shapes were seen before",
)  # fmt: skip
def orders_the_sum_by_the_shapes_seen_before(
    logits: Tensor, bias: Tensor, **options: Any
) -> Result:
    other = another_way(_seen, tuple(logits.shape))
    return route(logits, bias, **options, norm=another_order if other else normalised)


@mutant(
    OP, law="untouched", source="constructed",
    looks_like="the bias is added to the logits' own memory",
)  # fmt: skip
def scores_in_the_memory_of_the_logits(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    made = route(logits, bias, **options)
    logits.sigmoid_()
    return made


_kept: dict[Any, Tensor] = {}


@mutant(
    OP, law="untouched", source="constructed after the static outputs of captured graphs",
    looks_like="weights lie in a buffer that the next call writes",
)  # fmt: skip
def returns_weights_in_the_same_buffer(*call: Any, **options: Any) -> Result:
    weights, experts = route(*call, **options)
    return kept_buffer(_kept, weights), experts


@mutant(
    OP, law="strides",
    source="constructed after B18 https://github.com/fla-org/flash-linear-attention/commit/71ebc498",
    looks_like="the experts of a token are taken to lie side by side",
)  # fmt: skip
def takes_the_experts_of_a_token_to_lie_side_by_side(
    logits: Tensor, bias: Tensor, **options: Any
) -> Result:
    return route(as_if_rows(logits), bias, **options)


@mutant(
    OP, law="invariance", source="constructed",
    looks_like="biases beyond 16 are cut off",
)  # fmt: skip
def cuts_the_bias_off_at_sixteen(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    return route(logits, bias.clamp(-16.0, 16.0), **options)


@mutant(
    OP, law="identities", source="constructed",
    looks_like="the scaling is cut off at 16",
)  # fmt: skip
def cuts_the_scaling_off_at_sixteen(*call: Any, scaling: float, **options: Any) -> Result:
    return route(*call, **options, scaling=min(scaling, 16.0))


@mutant(
    OP, law="authority", source="constructed",
    looks_like="a row with NaN gives the ids of the row before it",
)  # fmt: skip
def gives_rows_behind_nan_the_ids_of_it(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    weights, experts = route(logits, bias, **options)
    behind = logits.isnan().any(dim=1).roll(1)
    if len(behind):
        behind[0] = False
    before = experts.roll(1, 0)
    return weights, torch.where(behind[:, None], before, experts)
