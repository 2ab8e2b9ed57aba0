"""Right router logits in several orders of summation."""

from __future__ import annotations

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._products import Tensor, logits_of, wide

OP = "moe_logits"
ALL = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@honest(OP, profile=ALL, differs="one product of whole matrices")
def multiplies_whole_matrices(x: Tensor, weight: Tensor) -> Tensor:
    return logits_of(x, weight)


@honest(OP, profile=ALL, differs="one channel after another, from the last")
def adds_channel_after_channel(x: Tensor, weight: Tensor) -> Tensor:
    a, b = wide(x), wide(weight)
    y = torch.zeros(len(x), len(weight), dtype=a.dtype)
    for d in reversed(range(x.shape[1])):
        y = y + a[:, d, None] * b[:, d]
    return y


@honest(OP, profile=ALL, differs="eight splits of the channels, added up in the end")
def adds_eight_splits_of_the_channels(x: Tensor, weight: Tensor) -> Tensor:
    parts = [logits_of(x[:, n::8], weight[:, n::8]) for n in range(8)]
    return torch.stack(parts).sum(dim=0)


@honest(
    OP, profile={"float32": "fp32", "bfloat16": "fp32"},
    differs="operands in three pieces of bfloat16, six products of them, the smallest first",
)  # fmt: skip
def splits_operands_into_bfloat16(x: Tensor, weight: Tensor) -> Tensor:
    def pieces(t: Tensor) -> list[Tensor]:
        made, rest = [], t.float()
        for _ in range(3):
            made.append(rest.to(torch.bfloat16).float())
            rest = rest - made[-1]
        return made

    a, b = pieces(x), pieces(weight)
    pairs = [(2, 0), (1, 1), (0, 2), (1, 0), (0, 1), (0, 0)]
    return torch.stack([a[i] @ b[j].mT for i, j in pairs]).cumsum(dim=0)[-1]
