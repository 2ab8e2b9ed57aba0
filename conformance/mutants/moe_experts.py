"""Experts that lose tokens, mix up weights or activate wrongly."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._experts import Tensor, combined, dense, experts_of, rows_of

OP = "moe_experts"
SPEC = {"float32": "fp32", "bfloat16": "fp32+spec=bf16"}


@mutant(
    OP, law="authority",
    source="H01 https://github.com/vllm-project/vllm-xpu-kernels/issues/453",
    looks_like="an expert keeps the first of its tokens only",
)  # fmt: skip
def keeps_the_first_token_of_an_expert(*call: Any) -> Tensor:
    return experts_of(*call, rows=lambda ids, e: tuple(t[:1] for t in rows_of(ids, e)))  # type: ignore[arg-type,return-value]


@mutant(
    OP, law="authority",
    source="H01 https://github.com/vllm-project/vllm/pull/35161",
    looks_like="expert -1 is taken for expert 0",
)  # fmt: skip
def takes_foreign_experts_for_the_first(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    return experts_of(x, gate_up, down, experts.clamp(min=0), weights)


@mutant(
    OP, law="authority", source="constructed after H01",
    looks_like="expert -1 is the last one",
)  # fmt: skip
def takes_foreign_experts_for_the_last(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    return experts_of(x, gate_up, down, experts % len(down), weights)


@mutant(
    OP, law="untouched",
    source="H04 https://github.com/linkedin/Liger-Kernel/commit/0f66f7ec",
    looks_like="the number of tiles of 32 tokens is rounded down: the last rows are never written",
)  # fmt: skip
def leaves_the_last_tile_of_tokens_unwritten(*call: Any) -> Tensor:
    y = experts_of(*call)
    made = torch.empty_like(y)
    whole = len(y) // 32 * 32 if len(y) > 32 else len(y)
    made[:whole] = y[:whole]
    return made


@mutant(
    OP, law="untouched",
    source="H08 https://github.com/vllm-project/vllm/pull/12583",
    looks_like="what experts on other ranks would return is memory that nobody has written",
)  # fmt: skip
def adds_what_memory_holds_for_foreign_experts(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    def combine(results: Tensor, weights: Tensor) -> Tensor:
        kept = torch.where((experts >= 0)[..., None], results, torch.empty_like(results))
        return combined(kept, weights)

    return experts_of(x, gate_up, down, experts, weights, combine=combine)


@mutant(
    OP, law="authority",
    source="H09 https://github.com/ml-explore/mlx-lm/pull/767",
    looks_like="up is activated, the gate is not",
)  # fmt: skip
def activates_the_other_half(*call: Any) -> Tensor:
    def one(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        return dense(x, gate_up, down, lambda gate, up: up * up.sigmoid() * gate)

    return experts_of(*call, one=one)


@mutant(
    OP, law="authority",
    source="H09 https://github.com/ROCm/ATOM/pull/885",
    looks_like="rows of gate and up are taken in turn",
)  # fmt: skip
def reads_gate_and_up_in_turn(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    turned = torch.cat([gate_up[:, 0::2], gate_up[:, 1::2]], dim=1)
    return experts_of(x, turned, down, experts, weights)


@mutant(
    OP, law="authority",
    source="H05 https://github.com/linkedin/Liger-Kernel/commit/780e76b8",
    looks_like="the matrices of an expert begin I rows after those of the one before, not 2I",
)  # fmt: skip
def steps_from_expert_to_expert_by_one_half(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    E, J, D = gate_up.shape
    rows = gate_up.reshape(E * J, D)
    start = torch.arange(E) * (J // 2)
    return experts_of(x, rows[start[:, None] + torch.arange(J)], down, experts, weights)


@mutant(
    OP, law="authority",
    source="H10 https://github.com/jundot/omlx/pull/2571",
    looks_like="SiLU is cut off at 4 and up at 4 either way, as in another model",
)  # fmt: skip
def clamps_the_activation_at_four(*call: Any) -> Tensor:
    def act(gate: Tensor, up: Tensor) -> Tensor:
        return (gate * gate.sigmoid()).clamp(max=4.0) * up.clamp(-4.0, 4.0)

    return experts_of(*call, one=lambda x, g, d: dense(x, g, d, act))


@mutant(
    OP, law="authority",
    source="H11 https://github.com/ggml-org/llama.cpp/pull/25389",
    looks_like="hidden channels pass through float16, which holds no more than 65504",
    profile=SPEC,
)  # fmt: skip
def passes_hidden_channels_through_float16(*call: Any) -> Tensor:
    def one(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        return dense(x, gate_up, down, stored=lambda t: t.half().to(x.dtype))

    return experts_of(*call, one=one)


@mutant(
    OP, law="exact",
    source="H12 https://github.com/NVIDIA/TensorRT-LLM/pull/16778",
    looks_like="the weighted sum is added up in bfloat16",
    profile={"bfloat16": "fp32+spec=bf16"},
)  # fmt: skip
def adds_the_choices_up_in_bfloat16(*call: Any) -> Tensor:
    def combine(results: Tensor, weights: Tensor) -> Tensor:
        y = torch.zeros_like(results[:, 0])
        for j in range(results.shape[1]):
            y = y + results[:, j] * weights[:, j, None].to(y.dtype)
        return y

    return experts_of(*call, combine=combine)


@mutant(
    OP, law="authority",
    source="H13 https://github.com/flashinfer-ai/flashinfer/issues/3559",
    looks_like="fewer than 8 tokens go through a path whose operands are bfloat16",
    profile={"float32": "fp32"},
)  # fmt: skip
def rounds_operands_where_tokens_are_few(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    if len(x) < 8:
        x, gate_up, down = (t.to(torch.bfloat16).to(t.dtype) for t in (x, gate_up, down))
    return experts_of(x, gate_up, down, experts, weights)


@mutant(
    OP, law="authority",
    source="H11, constructed: exp(gate) is infinite where the gate is large",
    looks_like="SiLU is gate exp(gate) / (1 + exp(gate)): NaN at large gates",
)  # fmt: skip
def overflows_at_large_gates(*call: Any) -> Tensor:
    def act(gate: Tensor, up: Tensor) -> Tensor:
        e = gate.exp()
        return gate * e / (1 + e) * up

    return experts_of(*call, one=lambda x, g, d: dense(x, g, d, act))


@mutant(
    OP, law="authority", source="constructed after G09 https://github.com/kvcache-ai/sglang/pull/86",
    looks_like="weights are normalised again",
)  # fmt: skip
def normalises_the_weights_again(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    total = weights.sum(dim=1, keepdim=True)
    return experts_of(x, gate_up, down, experts, weights / torch.where(total == 0, 1.0, total))


@mutant(
    OP, law="authority", source="constructed",
    looks_like="an expert takes no more tokens than twice its share, and drops the others",
)  # fmt: skip
def drops_tokens_beyond_the_capacity(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    most = max(4, 2 * experts.numel() // len(down))

    def rows(ids: Tensor, e: int) -> tuple[Tensor, Tensor]:
        token, place = rows_of(ids, e)
        return token[:most], place[:most]

    return experts_of(x, gate_up, down, experts, weights, rows=rows)


@mutant(
    OP, law="authority", source="constructed",
    looks_like="the weight of a token's first choice is that of all",
)  # fmt: skip
def weighs_all_choices_as_the_first(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    return experts_of(x, gate_up, down, experts, weights[:, :1].expand_as(weights))


@mutant(
    OP, law="authority", source="K01 https://github.com/huggingface/transformers/issues/47031",
    looks_like="a square down matrix is taken for its transpose",
)  # fmt: skip
def transposes_square_matrices(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    square = down.shape[1] == down.shape[2]
    return experts_of(x, gate_up, down.mT if square else down, experts, weights)


@mutant(
    OP, law="authority", source="constructed",
    looks_like="the weight is squared: applied to the input and to the result",
)  # fmt: skip
def applies_the_weight_before_and_after(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    return experts_of(x, gate_up, down, experts, weights * weights)


@mutant(
    OP, law="authority",
    source="constructed after H14 https://github.com/linkedin/Liger-Kernel/commit/57848d53",
    looks_like="the activation is gate sigmoid(1.702 gate), as of another model",
)  # fmt: skip
def activates_as_another_model_does(*call: Any) -> Tensor:
    def act(gate: Tensor, up: Tensor) -> Tensor:
        return gate * (1.702 * gate).sigmoid() * up

    return experts_of(*call, one=lambda x, g, d: dense(x, g, d, act))
