"""Router logits that are right for rows of usual lengths."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._products import Tensor, logits_of

OP = "moe_logits"
PROFILE = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@mutant(
    OP, law="authority", profile=PROFILE,
    source="constructed",
    looks_like="tokens from the 128th on have the logits of the first 128",
)  # fmt: skip
def holds_the_rows_of_128_tokens(x: Tensor, weight: Tensor) -> Tensor:
    y = logits_of(x, weight)
    y[128:] = y[: max(len(y) - 128, 0)][: len(y[128:])] if len(y) <= 256 else 0.0
    return y


@mutant(
    OP, law="authority", profile=PROFILE,
    source="constructed",
    looks_like="of more than 4096 channels, the first 4096 are added up",
)  # fmt: skip
def adds_up_4096_channels(x: Tensor, weight: Tensor) -> Tensor:
    return logits_of(x[:, :4096], weight[:, :4096])


@mutant(
    OP, law="authority", profile={"float32": "fp32"},
    source="constructed",
    looks_like="for 4 tokens or more of over 1024 channels, two sums are added in bfloat16",
)  # fmt: skip
def adds_two_sums_in_bfloat16(x: Tensor, weight: Tensor) -> Tensor:
    D = x.shape[1]
    if D <= 1024 or len(x) < 4:
        return logits_of(x, weight)
    first = logits_of(x[:, : D // 2], weight[:, : D // 2])
    last = logits_of(x[:, D // 2 :], weight[:, D // 2 :])
    return (first.bfloat16() + last.bfloat16()).to(first.dtype)


@mutant(
    OP, law="scale", profile=PROFILE,
    source="constructed",
    looks_like="of rows of 8192 channels, those from the 96th on lack the last 64 channels",
)  # fmt: skip
def leaves_out_channels_of_late_rows_of_a_model(x: Tensor, weight: Tensor) -> Tensor:
    y = logits_of(x, weight)
    if x.shape[1] >= 8192 and len(weight) >= 256:
        y[96:] = logits_of(x[96:, :-64], weight[:, :-64])
    return y
