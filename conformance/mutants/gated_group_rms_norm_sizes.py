"""Gated group norms that are right for groups of usual number and size."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import Tensor, gated

OP = "gated_group_rms_norm"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 512 channels of a group, the first 512 enter the mean",
)  # fmt: skip
def takes_the_mean_of_512_channels_of_a_group(*call: Any, **options: Any) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        return rows[..., :512].square().sum(-1, keepdim=True) / rows.shape[-1]

    return gated(*call, **options, mean=mean)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="groups from the 16th on take the means of the first 16",
)  # fmt: skip
def holds_the_means_of_16_groups(*call: Any, **options: Any) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        found = rows.square().mean(-1, keepdim=True)
        return found[..., torch.arange(rows.shape[-2]) % 16, :]

    return gated(*call, **options, mean=mean)


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of rows of 8192 channels, those from the 64th on have the gates of the row before",
)  # fmt: skip
def opens_the_gates_of_the_row_before_in_a_model(
    x: Tensor, gate: Tensor, *call: Any, **options: Any
) -> Tensor:
    D = gate.shape[-1]
    if D >= 8192:
        rows = gate.reshape(-1, D).clone()
        rows[64:] = rows[63:-1].clone()
        gate = rows.view(gate.shape)
    return gated(x, gate, *call, **options)
