"""Partial rotations that compute something else."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rope import Tensor, halves, pairs, partial, rotated

OP = "partial_rope"


@mutant(
    OP,
    law="authority",
    source="E03 https://github.com/pie-project/pie/pull/603",
    looks_like="dim j is paired with j + K/2, not with j + R/2",
)
def pairs_over_the_whole_head(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    F, K = cos.shape[-1], x.shape[-1]
    if K % 2:
        return partial(x, cos, sin)
    a, b = x.chunk(2, dim=-1)
    turned = rotated(torch.cat([a[..., :F], b[..., :F]], -1), cos, sin)
    first, second = turned.chunk(2, dim=-1)
    return torch.cat([first, a[..., F:], second, b[..., F:]], -1)


@mutant(
    OP,
    law="authority",
    source="E02 https://github.com/vllm-project/vllm/pull/43676",
    looks_like="all dims are rotated, the table read again for those behind R",
)
def rotates_the_dims_that_pass(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    R, K = 2 * cos.shape[-1], x.shape[-1]
    more = (K - R) // 2 * 2
    y = partial(x, cos, sin)
    if more:
        again = [t.repeat(1, 1, K // R + 1)[..., : more // 2] for t in (cos, sin)]
        y[..., R : R + more] = rotated(x[..., R : R + more], *again)
    return y


@mutant(
    OP,
    law="authority",
    source="E05 https://github.com/gittensor-ai-lab/sparkinfer/pull/518",
    looks_like="only the rotated dims are stored",
)
def stores_only_the_rotated_dims(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype)
    R = 2 * cos.shape[-1]
    y[..., :R] = rotated(x[..., :R], cos, sin)
    return y


@mutant(
    OP,
    law="authority",
    source="E14 https://github.com/linkedin/Liger-Kernel/commit/d7c78df1",
    looks_like="all sequences are rotated by the positions of the first",
)
def rotates_by_the_first_sequence(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos[:1].expand_as(cos), sin[:1].expand_as(sin))


@mutant(
    OP,
    law="authority",
    source="D32 https://github.com/huggingface/transformers/issues/39687",
    looks_like="neighbours are taken for pairs",
)
def takes_neighbours_for_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    R = 2 * cos.shape[-1]
    turned = pairs(rotated(halves(x[..., :R]), cos, sin))
    return torch.cat([turned, x[..., R:]], -1)


@mutant(
    OP,
    law="authority",
    source="D32 https://github.com/ml-explore/mlx-lm/pull/512",
    looks_like="the rotation is applied twice",
)
def rotates_every_head_twice(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(partial(x, cos, sin), cos, sin)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the rotation goes backward",
)
def rotates_heads_backward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos, -sin)


@mutant(
    OP,
    law="authority",
    source="E01 https://github.com/vllm-project/vllm/issues/51049",
    looks_like="heads behind the first exchange with lanes that do not take part",
)
def exchanges_with_idle_lanes(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    y = partial(x, cos, sin)
    R = 2 * cos.shape[-1]
    if x.shape[-1] > R and x.shape[2] > 1:
        y[:, :, 1:, : R // 2] = (x[:, :, 1:, : R // 2].float() * cos[:, :, None].float()).to(
            y.dtype
        )
    return y


@mutant(
    OP,
    law="authority",
    source="C14 https://github.com/fla-org/flash-linear-attention/commit/81ec24f1",
    looks_like="rows of the table are counted along the heads",
)
def counts_tokens_along_the_heads(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    T, H = x.shape[1:3]
    row = torch.arange(T) % max(H, 1)
    return partial(x, cos[:, row], sin[:, row])
