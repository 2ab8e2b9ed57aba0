"""Gated group norms that compute something else."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import NARROW, Tensor, gated, parted, silu

OP = "gated_group_rms_norm"


@mutant(
    OP,
    law="authority",
    source="constructed after group_norm_size of the released configuration",
    looks_like="the number of groups is taken for their width",
)
def takes_the_number_of_groups_for_their_width(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    return gated(x, gate, weight, groups=x.shape[-1] // groups, eps=eps)


@mutant(
    OP,
    law="authority",
    source="F01 https://github.com/state-spaces/mamba/pull/908",
    looks_like="a shard divides its channels by the groups of all shards",
)
def divides_by_the_groups_of_all_shards(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    of_all = 2 * groups if x.shape[-1] % (2 * groups) == 0 else groups
    return gated(x, gate, weight, groups=of_all, eps=eps)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the mean is of the whole row, not of the group",
)
def normalises_the_whole_row(
    x: Tensor,
    gate: Tensor,
    weight: Tensor,
    *,
    groups: int,
    eps: float,
) -> Tensor:
    return gated(x, gate, weight, groups=1, eps=eps)


@mutant(
    OP,
    law="authority",
    source="F04 https://github.com/areal-project/AReaL/commit/4dc39d4e9",
    looks_like="all groups have the weights of the first",
)
def weighs_all_groups_like_the_first(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    width = x.shape[-1] // groups
    return gated(x, gate, weight[:width].repeat(groups), groups=groups, eps=eps)


@mutant(
    OP,
    law="authority",
    source="constructed after the gated norms of Mamba and gated delta nets",
    looks_like="the gate is SiLU, not a sigmoid",
)
def gates_with_silu(*call: Any, **options: Any) -> Tensor:
    return gated(*call, **options, opened=silu)


@mutant(
    OP,
    law="authority",
    source="constructed after norm_before_gate=False of Mamba 2",
    looks_like="rows are gated before they are normalised",
)
def gates_before_it_normalises(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    through = (x.float() * torch.sigmoid(gate.float())).to(x.dtype)
    return gated(through, gate, weight, groups=groups, eps=eps, opened=torch.ones_like)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the gate has the groups of another order: channels by groups",
)
def reads_the_gate_channels_by_groups(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    turned = parted(gate, gate.shape[-1] // groups).transpose(-1, -2).flatten(-2)
    return gated(x, turned, weight, groups=groups, eps=eps)


@mutant(
    OP,
    law="authority",
    source="B22 https://github.com/fla-org/flash-linear-attention/commit/bd32e7b5",
    looks_like="as many rows as there are tokens are normalised, not as there are groups of them",
)
def normalises_as_many_groups_as_there_are_rows(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype)
    made = gated(x, gate, weight, groups=groups, eps=eps)
    rows = x.numel() // x.shape[-1]
    y.view(-1, x.shape[-1] // groups)[:rows] = made.reshape(-1, x.shape[-1] // groups)[:rows]
    return y


@mutant(
    OP,
    law="authority",
    profile=NARROW,
    source="F12 https://github.com/ROCm/aiter/issues/3806",
    looks_like="squares are taken in bfloat16",
)
def squares_groups_in_bfloat16(*call: Any, **options: Any) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        total = torch.zeros_like(rows[..., :1], dtype=torch.bfloat16)
        for part in torch.split(rows.to(torch.bfloat16).square(), 1, dim=-1):
            total = total + part
        return total.float() / rows.shape[-1]

    return gated(*call, **options, mean=mean)


@mutant(
    OP,
    law="exact",
    profile=NARROW,
    source="constructed after tables of a sigmoid",
    looks_like="no gate opens further than sigmoid(6)",
)
def opens_no_gate_beyond_six(*call: Any, **options: Any) -> Tensor:
    return gated(*call, **options, opened=lambda gate: torch.sigmoid(gate.clamp(max=6.0)))
