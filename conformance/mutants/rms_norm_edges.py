"""RMS norms that go wrong just inside what the specification says."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import Tensor, norm

OP = "rms_norm"
LANES = 32


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="all 32 lanes add the whole sum of squares up, which is divided by 32 afterwards",
)
def adds_the_total_of_every_lane_up(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        return LANES * rows.square().sum(-1, keepdim=True) / (LANES * rows.shape[-1])

    return norm(x, weight, eps=eps, mean=mean)


@mutant(
    OP,
    law="strides",
    source="constructed after kernels of one stride of rows",
    looks_like="heads cut out of a fused projection are read as if no others lay between tokens",
)
def takes_heads_of_all_tokens_for_one_axis(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    if x.dim() != 4:
        return norm(x, weight, eps=eps)
    rows = [
        torch.as_strided(part, (part.shape[0] * part.shape[1], part.shape[2]), part.stride()[1:],
                         part.storage_offset())
        for part in x
    ]  # fmt: skip
    y = [norm(part, weight, eps=eps) for part in rows]
    return torch.stack(y).view(x.shape) if y else norm(x, weight, eps=eps)
