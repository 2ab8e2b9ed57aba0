"""DeepSeek-V3's router, and its experts in three ways."""

from typing import Any

import torch
from torch import nn
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.transformers._configuration import configuration, holding

ROUTER = ("transformers.models.deepseek_v3",)
EXPERTS = (*ROUTER, "transformers.integrations")


# F.linear of both in float32.
LOGITS = dict.fromkeys(("float32", "bfloat16", "float16"), "fp32")


def _several(case: Any) -> bool | str:
    return case.E > 1 or "scores groups by their best two experts"


@implements("moe_logits", profile=LOGITS, supports=_several, cost="native", packages=ROUTER)
def moe_logits(x, weight):  # type: ignore[no-untyped-def] # as the op
    E, D = weight.shape
    return _router(E, D, 1, 1, 1, 1.0, weight)(x)[0]


def _of_a_product(case: Any) -> bool | str:
    return case.logits != "masked" or "logits are a product of its own, which has no -inf"


@implements(
    "moe_route", profile={"float32": "fp32"}, supports=_of_a_product, cost="native", packages=ROUTER
)
def moe_route(logits, bias, *, groups, top_groups, top_k, scaling):  # type: ignore[no-untyped-def] # as the op
    """Tokens that are their own logits: the router's weight is the identity."""
    E = logits.shape[1]
    router = _router(E, E, groups, top_groups, top_k, scaling, torch.eye(E))
    router.e_score_correction_bias = bias
    _, weights, experts = router(logits)
    return weights, experts


def _router(
    E: int, D: int, groups: int, top_groups: int, top_k: int, scaling: float, weight: torch.Tensor
) -> Any:
    given = configuration(
        n_routed_experts=E, hidden_size=D, n_group=groups, topk_group=top_groups,
        num_experts_per_tok=top_k, routed_scaling_factor=scaling, norm_topk_prob=top_k > 1,
    )  # fmt: skip
    return holding(deepseek.DeepseekV3TopkRouter(given), {"weight": weight})


# Both projections, the activation and its product are stored in the dtype of x; float32 weights
# make the rest float32, which is rounded once (integrations/moe.py).
SPEC = {
    "float64": "fp64", "float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16",
}  # fmt: skip
# And here each expert's part is added to a sum in the dtype of x (`index_add_`).
ADDED = {"float64": "fp64", "float32": "fp32"}


@implements("moe_experts", profile=ADDED, cost="native", packages=EXPERTS)
def moe_experts(x, gate_up, down, experts, weights):  # type: ignore[no-untyped-def] # as the op
    return _experts("eager", x, gate_up, down, experts, weights)


@implements("moe_experts", profile=SPEC, cost="native", packages=EXPERTS)
def moe_experts_batched(x, gate_up, down, experts, weights):  # type: ignore[no-untyped-def] # as the op
    return _experts("batched_mm", x, gate_up, down, experts, weights)


GROUPED = {name: p for name, p in SPEC.items() if name != "float64"}  # torch's grouped_mm has none


@implements("moe_experts", profile=GROUPED, cost="native", packages=EXPERTS)
def moe_experts_grouped(x, gate_up, down, experts, weights):  # type: ignore[no-untyped-def] # as the op
    """With channels of zeros to a multiple of 8: torch's grouped_mm wants rows of 16 bytes."""
    (D, hidden), pad = down.shape[1:], nn.functional.pad
    wide, deep = -D % 8, -hidden % 8
    halves = [pad(half, (0, wide, 0, deep)) for half in gate_up.chunk(2, dim=1)]
    down = pad(down, (0, deep, 0, wide))
    gate_up = torch.cat(halves, dim=1)
    return _experts("grouped_mm", pad(x, (0, wide)), gate_up, down, experts, weights)[:, :D]


def _experts(way: str, x: Any, gate_up: Any, down: Any, experts: Any, weights: Any) -> Any:
    E, D, hidden = down.shape
    given = configuration(n_routed_experts=E, hidden_size=D, moe_intermediate_size=hidden)
    given._experts_implementation = way
    module = deepseek.DeepseekV3Experts(given)
    holding(module, {"gate_up_proj": gate_up.contiguous(), "down_proj": down.contiguous()})
    foreign = experts < 0  # which it numbers E, and gives no weight
    module._is_expert_parallel = bool(foreign.any())
    return module(x, experts.masked_fill(foreign, E).long(), weights.masked_fill(foreign, 0.0))
