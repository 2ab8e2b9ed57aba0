"""Routers that choose or weigh wrongly."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._routing import Result, Tensor, best, normalised, route

OP = "moe_route"


@mutant(
    OP, law="authority",
    source="G01 https://github.com/vllm-project/vllm/pull/12002",
    looks_like="weights are taken from the biased scores",
)  # fmt: skip
def weighs_by_the_biased_scores(*call: Any, **options: Any) -> Result:
    return route(*call, **options, unbiased=lambda _, biased: biased)


@mutant(
    OP, law="authority",
    source="G02 https://github.com/vllm-project/vllm/pull/13474",
    looks_like="groups are ranked by their best expert alone",
)  # fmt: skip
def ranks_groups_by_their_best_expert(*call: Any, **options: Any) -> Result:
    return route(*call, **options, of_groups=lambda g: g.amax(dim=-1))


@mutant(
    OP, law="authority",
    source="G03 https://github.com/deepseek-ai/DeepSeek-V3/issues/741",
    looks_like="experts of other groups are excluded by 0, which beats a negative biased score",
)  # fmt: skip
def excludes_other_groups_by_zero(*call: Any, **options: Any) -> Result:
    return route(*call, **options, excluded=0.0)


@mutant(
    OP, law="authority",
    source="G04 https://github.com/flashinfer-ai/flashinfer/pull/3875",
    looks_like="the unbiased score is recovered by subtracting the bias",
)  # fmt: skip
def recovers_scores_by_subtracting_the_bias(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    return route(logits, bias, **options, unbiased=lambda _, biased: biased - bias)


@mutant(
    OP, law="authority",
    source="G06 https://github.com/sgl-project/sglang/pull/37133",
    looks_like="the bias is rounded to bfloat16",
)  # fmt: skip
def keeps_the_bias_in_bfloat16(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    return route(logits, bias.to(torch.bfloat16).to(bias.dtype), **options)


@mutant(
    OP, law="authority",
    source="G07 https://github.com/sgl-project/sglang-jax/commit/73b00508",
    looks_like="logits are rounded to bfloat16 before the sigmoid",
)  # fmt: skip
def rounds_the_logits_to_bfloat16(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    return route(logits.to(torch.bfloat16).to(logits.dtype), bias, **options)


@mutant(
    OP, law="authority",
    source="G07 https://github.com/sgl-project/sglang-jax/commit/6b4c28bf",
    looks_like="scores are rounded to bfloat16",
)  # fmt: skip
def rounds_the_router_s_scores_to_bfloat16(*call: Any, **options: Any) -> Result:
    def narrow(x: Tensor) -> Tensor:
        return x.sigmoid().to(torch.bfloat16).to(x.dtype)

    return route(*call, **options, score=narrow)


@mutant(
    OP, law="authority",
    source="G08 https://github.com/sgl-project/sglang-jax/commit/507ad5d3",
    looks_like="the scaling is applied only where weights are normalised, so not to one choice",
)  # fmt: skip
def scales_normalised_weights_only(*call: Any, scaling: float, top_k: int, **rest: Any) -> Result:
    return route(*call, **rest, top_k=top_k, scaling=scaling if top_k > 1 else 1.0)


@mutant(
    OP, law="authority",
    source="G09 https://github.com/sgl-project/sglang/pull/35152",
    looks_like="the scaling is applied twice",
)  # fmt: skip
def scales_the_weights_twice(*call: Any, scaling: float, **options: Any) -> Result:
    return route(*call, **options, scaling=scaling**2)


@mutant(
    OP, law="authority",
    source="G10 https://github.com/sgl-project/sglang/pull/8364",
    looks_like="the scaling is left out",
)  # fmt: skip
def leaves_the_scaling_out(*call: Any, scaling: float, **options: Any) -> Result:
    del scaling
    return route(*call, **options, scaling=1.0)


@mutant(
    OP, law="untouched",
    source="G11 https://github.com/sgl-project/sglang/pull/40187",
    looks_like="the weight of a single choice is never written",
)  # fmt: skip
def leaves_the_weight_of_a_single_choice_unwritten(*call: Any, **options: Any) -> Result:
    weights, experts = route(*call, **options)
    return (torch.empty_like(weights) if weights.shape[1] == 1 else weights), experts


@mutant(
    OP, law="authority",
    source="constructed after G13 https://github.com/vllm-project/vllm/pull/52679",
    looks_like="the first that reach the k-th score are taken, better ones behind a tie are not",
)  # fmt: skip
def takes_the_first_that_reach_the_threshold(*call: Any, **options: Any) -> Result:
    def first(within: Tensor, k: int) -> Tensor:
        threshold = within.topk(k, dim=-1).values[:, -1:]
        place = torch.arange(within.shape[1])
        return torch.where(within >= threshold, place, place + within.shape[1]).topk(
            k, dim=-1, largest=False
        ).indices  # fmt: skip

    return route(*call, **options, choose=first)


@mutant(
    OP, law="authority",
    source="constructed after G13 https://github.com/sgl-project/sglang/pull/13969",
    looks_like="one of two experts with equal scores is chosen twice",
)  # fmt: skip
def finds_an_expert_again_by_its_score(*call: Any, **options: Any) -> Result:
    def by_value(within: Tensor, k: int) -> Tensor:
        values = within.topk(k, dim=-1).values
        return (within[:, None, :] == values[:, :, None]).int().argmax(dim=-1)

    return route(*call, **options, choose=by_value)


@mutant(
    OP, law="authority",
    source="G14 https://github.com/vllm-project/vllm/pull/32058",
    looks_like="a row that is not finite gets expert 0 in every place",
)  # fmt: skip
def gives_rows_with_nan_expert_zero_everywhere(
    logits: Tensor, bias: Tensor, **options: Any) -> Result:  # fmt: skip
    weights, experts = route(logits, bias, **options)
    return weights, experts.masked_fill(logits.isnan().any(dim=1, keepdim=True), 0)


@mutant(
    OP, law="authority",
    source="G16 https://github.com/MetaX-MACA/vLLM-metax/issues/270",
    looks_like="a branch for exactly 256 experts and 8 choices weighs by a softmax",
)  # fmt: skip
def weighs_by_a_softmax_at_one_shape(logits: Tensor, bias: Tensor, **options: Any) -> Result:
    if logits.shape[1] != 256 or options["top_k"] != 8:
        return route(logits, bias, **options)
    return route(logits, bias, **options, unbiased=lambda *_: logits.softmax(dim=-1))


@mutant(
    OP, law="authority",
    source="constructed after linghe's group_topk and https://github.com/NVIDIA/Megatron-LM/issues/1441",
    looks_like="a group is scored by its top_k / top_groups best experts, not by two",
)  # fmt: skip
def scores_groups_by_another_number_of_experts(*call: Any, **options: Any) -> Result:
    def some(of_group: Tensor) -> Tensor:
        n = max(1, options["top_k"] // options["top_groups"])
        return of_group.topk(min(n, of_group.shape[2]), dim=-1).values.sum(dim=-1)

    return route(*call, **options, of_groups=some)


@mutant(
    OP, law="authority",
    source="constructed after sglang-jax, which normalises without 1e-20",
    looks_like="weights are divided by their sum alone: scores of 0 give NaN",
)  # fmt: skip
def divides_by_the_sum_alone(*call: Any, **options: Any) -> Result:
    def norm(weights: Tensor) -> Tensor:
        return weights if weights.shape[1] == 1 else weights / weights.sum(dim=-1, keepdim=True)

    return route(*call, **options, norm=norm)


@mutant(
    OP, law="authority", source="constructed",
    looks_like="a single choice is normalised too: its weight is the scaling",
)  # fmt: skip
def normalises_a_single_choice(*call: Any, **options: Any) -> Result:
    return route(*call, **options, norm=lambda w: w / (w.sum(dim=-1, keepdim=True) + 1e-20))


@mutant(
    OP, law="authority", source="constructed",
    looks_like="experts are sorted by their ids, weights are not",
)  # fmt: skip
def sorts_the_experts_but_not_the_weights(*call: Any, **options: Any) -> Result:
    weights, experts = route(*call, **options)
    return weights, experts.sort(dim=-1).values


@mutant(
    OP, law="authority", source="constructed",
    looks_like="weights are normalised over the experts of the chosen groups, not the chosen ones",
)  # fmt: skip
def normalises_over_all_experts_of_the_token(logits: Tensor, bias: Tensor, **rest: Any) -> Result:
    total = logits.sigmoid().sum(dim=-1, keepdim=True)
    norm = normalised if rest["top_k"] == 1 else lambda w: w / (total + 1e-20)
    return route(logits, bias, **rest, norm=norm)


@mutant(
    OP, law="authority", source="constructed",
    looks_like="the last group is never looked at where the groups are no power of two",
)  # fmt: skip
def forgets_the_last_of_an_odd_number_of_groups(*call: Any, **options: Any) -> Result:
    def choose(within: Tensor, k: int) -> Tensor:
        groups = options["groups"]
        if groups & (groups - 1) and options["top_groups"] == groups:
            size = within.shape[1] // groups
            if k <= within.shape[1] - size:
                return best(within[:, :-size], k)
        return best(within, k)

    return route(*call, **options, choose=choose)
