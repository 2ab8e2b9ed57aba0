"""Lightning attention that rounds where its declared profile does not allow it.

Several declare one dtype only: there the mistake is small against what the profile does allow.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import (
    Result,
    Tensor,
    chunked,
    one_token,
    recurrent,
)

OP = "lightning_attention"
BF16 = {"bfloat16": "bf16-tc"}
FP16 = {"float16": "fp16-tc"}
FP32 = {"float32": "fp32"}
FP64 = {"float64": "fp64"}


def rounded(x: Tensor, *, to: torch.dtype) -> Tensor:
    """``x`` after one rounding."""
    return x.to(to).to(x.dtype)


def truncated(x: Tensor, *, bits: int) -> Tensor:
    """``x`` (float32) without its last ``bits`` bits."""
    return (x.contiguous().view(torch.int32) >> bits << bits).view(torch.float32)


bfloat16 = partial(rounded, to=torch.bfloat16)


@mutant(
    OP,
    law="authority",
    profile=BF16,
    source="A39 https://github.com/NVIDIA/TensorRT-Model-Connect/pull/725",
    looks_like="the state is rounded to bfloat16 after every token",
)
def keeps_the_state_in_bfloat16_token_by_token(*call: Any, **options: Any) -> Result:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        o, S = one_token(q, k, v, S, a, scale)
        return o, bfloat16(S)

    return recurrent(*call, **options, token=token)


@mutant(
    OP,
    law="authority",
    profile=BF16,
    source="A39 https://github.com/xLLM-AI/xllm/pull/2055",
    looks_like="the state is rounded to bfloat16 after every chunk of 16 tokens",
)
def keeps_the_state_in_bfloat16_chunk_by_chunk(*call: Any, **options: Any) -> Result:
    return chunked(*call, **options, chunk=16, carry=bfloat16)


@mutant(
    OP,
    law="authority",
    profile=FP16,
    source="A39 https://github.com/fla-org/flash-linear-attention/commit/8641906e",
    looks_like="the state is kept in float16",
)
def keeps_the_state_in_float16(*call: Any, **options: Any) -> Result:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        o, S = one_token(q, k, v, S, a, scale)
        return o, rounded(S, to=torch.float16)

    return recurrent(*call, **options, token=token)


@mutant(
    OP,
    law="authority",
    profile=FP32,
    source="A41 https://github.com/fla-org/flash-linear-attention/pull/1180",
    looks_like="float32 products are taken in tf32, and declared as fp32",
)
def multiplies_in_tf32_and_calls_it_float32(*call: Any, **options: Any) -> Result:
    return chunked(*call, **options, operand=partial(truncated, bits=13))


@mutant(
    OP,
    law="authority",
    profile=FP32,
    source="constructed",
    looks_like="float32 operands are rounded to bfloat16",
)
def multiplies_float32_inputs_in_bfloat16(*call: Any, **options: Any) -> Result:
    return chunked(*call, **options, operand=bfloat16)


@mutant(
    OP,
    law="authority",
    profile=FP64,
    source="constructed",
    looks_like="float64 inputs are computed in float32",
)
def computes_float64_inputs_in_float32(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    if initial_state is not None:
        initial_state = initial_state.float()
    narrow = (x.float() for x in (q, k, v, log_decay))
    o, state = chunked(*narrow, initial_state=initial_state, **options)
    return o.to(q.dtype), state.to(q.dtype)


@mutant(
    OP,
    law="exact",
    profile=BF16,
    source="constructed",
    looks_like="o is accumulated in bfloat16, 8 key dimensions at a time",
)
def accumulates_the_output_in_bfloat16(
    q: Tensor, k: Tensor, v: Tensor, *call: Any,
    initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    o = torch.zeros_like(v)
    for first in range(0, q.shape[-1], 8):
        some = slice(first, first + 8)
        start = None if initial_state is None else initial_state[:, :, some]
        part, _ = chunked(
            q[..., some], k[..., some], v, *call, initial_state=start, **options
        )  # fmt: skip
        o = o + part  # rounds to bfloat16
    return o, chunked(q, k, v, *call, initial_state=initial_state, **options)[1]


@mutant(
    OP,
    law="authority",
    profile=BF16,
    source="constructed",
    looks_like="the scores are stored in float8 e4m3",
)
def stores_the_scores_in_float8(*call: Any, **options: Any) -> Result:
    def float8(scores: Tensor) -> Tensor:
        return rounded(scores.clamp(-448, 448), to=torch.float8_e4m3fn)

    return chunked(*call, **options, scores=float8)


@mutant(
    OP,
    law="exact",
    profile=BF16,
    source="Triton 3.9 interpreter: float32 to bfloat16 truncates",
    looks_like="o is cut to bfloat16, not rounded",
)
def cuts_the_output_to_bfloat16_instead_of_rounding(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    o, state = chunked(q.float(), k.float(), v.float(), *call, **options)
    return truncated(o, bits=16).to(q.dtype), state


@mutant(
    OP,
    law="exact",
    profile=BF16,
    source="constructed",
    looks_like="o is too large by two parts in a thousand",
)
def enlarges_the_output_by_two_parts_in_a_thousand(
    *call: Any, scale: float, **options: Any
) -> Result:
    return chunked(*call, scale=1.002 * scale, **options)


@mutant(
    OP,
    law="authority",
    profile={**BF16, **FP16},
    source="constructed",
    looks_like="o is too large by one percent",
)
def enlarges_the_output_by_one_percent(*call: Any, scale: float, **options: Any) -> Result:
    return chunked(*call, scale=1.01 * scale, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="one element of o, in its middle, is too large by a tenth",
)
def enlarges_one_element_by_a_tenth(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    factor = torch.ones_like(o).flatten()
    factor[o.numel() // 2 : o.numel() // 2 + 1] = 1.1
    return o * factor.reshape(o.shape), state


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="v is quantised to 8 bits by the largest value of the whole batch",
)
def quantises_the_values_by_the_largest_in_the_batch(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    if not v.numel():
        return chunked(q, k, v, *call, **options)
    step = v.abs().max().to(torch.float64).clamp(min=1e-30) / 127
    return chunked(q, k, ((v / step).round() * step).to(v.dtype), *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="contributions smaller than a thousandth of the largest are dropped from the state",
)
def drops_small_entries_of_the_state(*call: Any, **options: Any) -> Result:
    def carry(S: Tensor) -> Tensor:
        if not S.numel():
            return S
        return torch.where(S.abs() < 1e-3 * S.abs().max(), 0, S)

    return chunked(*call, **options, chunk=16, carry=carry)
