"""RMS norms that compute something else."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import HALF, NARROW, Tensor, norm, unit

OP = "rms_norm"


@mutant(
    OP,
    law="authority",
    source="F14 https://github.com/linkedin/Liger-Kernel/commit/f4a51fb8",
    looks_like="the sum of squares is divided by the padded length of the row",
)
def divides_by_the_padded_length(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    D = x.shape[-1]
    padded = 1 << (D - 1).bit_length()
    return norm(x, weight, eps=eps, mean=lambda r: r.square().sum(-1, keepdim=True) / padded)


@mutant(
    OP,
    law="authority",
    source="F16 https://github.com/allenai/OLMo/issues/281",
    looks_like="eps is added to the root, not under it",
)
def adds_eps_outside_the_root(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=0.0, inverse=lambda mean: 1 / (mean.sqrt() + eps))


@mutant(
    OP,
    law="authority",
    source="F16 https://github.com/apple/coremltools/issues/2821",
    looks_like="rows are divided by their largest entry first, and eps is not",
)
def scales_the_row_but_not_eps(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    largest = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-30)
    return unit(x.float() / largest, eps).to(x.dtype) * weight


@mutant(
    OP,
    law="authority",
    source="D22 https://github.com/huggingface/transformers/pull/44346",
    looks_like="eps is the default of the class, 1e-6, whatever the configuration says",
)
def takes_the_default_eps(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=1e-6)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the mean is subtracted, as layer normalisation does",
)
def subtracts_the_mean(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    centred = x.float() - x.float().mean(-1, keepdim=True)
    return unit(centred, eps).to(x.dtype) * weight


@mutant(
    OP,
    law="authority",
    profile=HALF,
    source="constructed after onnx 1.22 reference/ops/op_rms_normalization.py",
    looks_like="squares are taken in float16, where those of 256 overflow",
)
def squares_rows_in_float16(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    mean = x.square().float().mean(-1, keepdim=True)
    return (x.float() * torch.rsqrt(mean + eps)).to(x.dtype) * weight


@mutant(
    OP,
    law="authority",
    profile=NARROW,
    source="F12 https://github.com/linkedin/Liger-Kernel/commit/7d54ff88",
    looks_like="squares are added up in bfloat16, one after another",
)
def adds_squares_up_in_bfloat16(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        total = torch.zeros_like(rows[..., :1], dtype=torch.bfloat16)
        for part in torch.split(rows.square().to(torch.bfloat16), 1, dim=-1):
            total = total + part
        return total.float() / rows.shape[-1]

    return norm(x, weight, eps=eps, mean=mean)


@mutant(
    OP,
    law="authority",
    profile=NARROW,
    source="F13 https://github.com/vllm-project/vllm/pull/29810",
    looks_like="the weight is kept as its distance from 1, in bfloat16",
)
def keeps_the_weight_minus_one(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, 1 + (weight - 1), eps=eps)


@mutant(
    OP,
    law="authority",
    source="F19 https://github.com/1bit-MONSTER/1bit-MONSTER/issues/1154",
    looks_like="a single token, as in decoding, is not weighed",
)
def forgets_the_weight_of_a_single_token(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    single = x.dim() >= 2 and x.shape[-2] == 1
    return norm(x, torch.ones_like(weight) if single else weight, eps=eps)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the mean square is not allowed beyond 2^100",
)
def clamps_the_mean_square(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    most = 2.0**25 if x.dtype == torch.float16 else 2.0**100
    return norm(
        x, weight, eps=eps, mean=lambda r: r.square().mean(-1, keepdim=True).clamp(max=most)
    )


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="rows are counted along two axes, so that a tensor of four is not finished",
)
def counts_rows_along_two_axes(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype)
    rows = x.reshape(-1, x.shape[-1])
    counted = x.shape[0] * x.shape[1] if x.dim() == 4 else len(rows)
    y.view(-1, x.shape[-1])[:counted] = norm(rows[:counted], weight, eps=eps)
    return y
