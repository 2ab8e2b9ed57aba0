"""Right experts in several orders, with several of the permitted roundings."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._experts import Tensor, combined, dense, experts_of, wide

OP = "moe_experts"
SPEC = {
    "float64": "fp64", "float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16",
}  # fmt: skip
TENSOR_CORE = {"float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}
# A float16 that was weighed before it was stored may have lost all its bits to a tiny weight, which
# no declared rounding includes.
WEIGHED = {"float32": "fp32", "bfloat16": "bf16-tc"}
WIDE = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@honest(OP, profile=SPEC, differs="expert after expert, rounded wherever the model does")
def runs_expert_after_expert(*call: Any) -> Tensor:
    return experts_of(*call)


@honest(OP, profile=WIDE, differs="nothing is rounded before the result")
def rounds_nothing_but_the_result(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    made = experts_of(wide(x), wide(gate_up), wide(down), experts, weights)
    return made.to(x.dtype)


@honest(OP, profile=TENSOR_CORE, differs="every expert on every token, the weights mostly 0")
def runs_every_expert_on_every_token(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    y = torch.zeros(x.shape, dtype=weights.dtype)
    for e in reversed(range(len(down))):
        mine = (weights * (experts == e)).sum(dim=1, keepdim=True)
        y = y + torch.where(mine == 0, 0.0, mine * wide(dense(x, gate_up[e], down[e])))
    return y.to(x.dtype)


@honest(OP, profile=WEIGHED, differs="choices sorted by expert, the weight before down")
def weighs_hidden_channels(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    C = experts.shape[1]
    y = torch.zeros(x.shape, dtype=weights.dtype)
    for at in experts.flatten().argsort(stable=True).tolist():
        e, t = int(experts.flatten()[at]), at // C
        if e < 0:
            continue
        gate, up = (wide(gate_up[e]) @ wide(x[t])).chunk(2)
        hidden = gate * gate.sigmoid() * up * weights[t, at % C]
        y[t] += wide(down[e]) @ wide(hidden.to(x.dtype))
    return y.to(x.dtype)


@honest(OP, profile=SPEC, differs="one hidden channel after another, choices from the last")
def adds_hidden_channel_after_channel(*call: Any) -> Tensor:
    def one(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        a, b, c = wide(x), wide(gate_up), wide(down)
        halves = torch.zeros(len(x), len(gate_up), dtype=a.dtype)
        for d in range(x.shape[1]):
            halves = halves + a[:, d, None] * b[:, d]
        gate, up = (wide(h) for h in halves.to(x.dtype).chunk(2, dim=1))
        silu = wide((gate / (1 + (-gate).exp())).to(x.dtype))
        hidden = wide((silu * up).to(x.dtype))
        made = torch.zeros(x.shape, dtype=hidden.dtype)
        for i in reversed(range(hidden.shape[1])):
            made = made + hidden[:, i, None] * c[:, i]
        return made.to(x.dtype)

    def combine(results: Tensor, weights: Tensor) -> Tensor:
        return combined(results.flip(1), weights.flip(1))

    return experts_of(*call, one=one, combine=combine)


@honest(OP, profile=WEIGHED, differs="weights times results are rounded, then added in float32")
def rounds_weighted_results(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    def combine(results: Tensor, weights: Tensor) -> Tensor:
        weighed = (results * weights[..., None]).to(x.dtype)
        return wide(weighed).sum(dim=1).to(x.dtype)

    wider = wide(x), wide(gate_up), wide(down)
    return experts_of(*wider, experts, weights, combine=combine)
