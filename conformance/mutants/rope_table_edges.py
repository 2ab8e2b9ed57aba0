"""Rotary tables that go wrong just inside what the specification says."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Result, Scaling, Tensor, frequencies, table

OP = "rope_table"
CONTEXT = 131_072


@mutant(
    OP,
    law="authority",
    source="constructed after embeddings whose position 0 is padding",
    looks_like="position 0 is taken for padding, and has the angles of position 1",
)
def starts_positions_at_one(positions: Tensor, **options: Any) -> Result:
    return table(positions.clamp(min=1), **options)


@mutant(
    OP,
    law="identities",
    source="constructed",
    looks_like="a factor of 1 is taken for one not set, and derived from the contexts",
)
def takes_a_factor_of_one_for_one_not_set(positions: Tensor, **options: Any) -> Result:
    def derived(R: int, theta: float, scaling: Scaling) -> Tensor:
        if scaling is not None and scaling["factor"] == 1:
            factor = CONTEXT / scaling["original_max_position_embeddings"]
            scaling = {**scaling, "factor": factor}
        return frequencies(R, theta, scaling)

    return table(positions, **options, frequencies=derived)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="for more than four pairs, tokens from the 129th on stand where the 129th does",
)
def holds_129_positions_of_many_pairs(
    positions: Tensor, *, rotary_dim: int, **options: Any
) -> Result:
    if rotary_dim > 8 and positions.dim() == 2 and positions.shape[1] > 129:
        positions = torch.cat([positions[:, :129], positions[:, 128:129].expand(
            -1, positions.shape[1] - 129)], 1)  # fmt: skip
    return table(positions, rotary_dim=rotary_dim, **options)


@mutant(
    OP,
    law="authority",
    source="constructed after DeepSeek's YaRN, where a missing mscale is 1",
    looks_like="a missing mscale is 1 where mscale_all_dim is given",
)
def takes_a_missing_mscale_of_a_table_for_one(
    positions: Tensor, *, scaling: Scaling, **options: Any
) -> Result:
    if scaling and scaling.get("mscale_all_dim") and "attention_factor" not in scaling:
        scaling = {"mscale": 1.0, **scaling}
    return table(positions, scaling=scaling, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="positions of one sequence get a batch of one, those of three axes the first of it",
)
def gives_all_positions_two_axes(positions: Tensor, **options: Any) -> Result:
    if positions.dim() != 3:
        return table(positions, **options)
    cos, sin = table(positions, **options)
    return cos[:1].expand_as(cos).clone(), sin[:1].expand_as(sin).clone()


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="beta_slow and truncate are read where beta_fast is given",
)
def reads_the_ends_of_a_whole_mapping(
    positions: Tensor, *, scaling: Scaling, **options: Any
) -> Result:
    if scaling and "beta_fast" not in scaling:
        scaling = {k: v for k, v in scaling.items() if k not in ("beta_slow", "truncate")}
    return table(positions, scaling=scaling, **options)
