"""mlx-lm's router, and its experts with the sum of what they return."""

import mlx.core as mx
import torch
from mlx_lm.models.bailing_hybrid import Gate, SparseMoeBlock

from lingspec.conformance.adapter import implements
from lingspec.conformance.adapters.mlx._arrays import mlx, torched
from lingspec.conformance.adapters.mlx._model import arguments

PACKAGES = ("mlx_lm",)
# Gate.__call__: the projection is stored in the dtype of x, and only then made float32.
LOGITS = {"float32": "fp32", "bfloat16": "fp32+product=bf16", "float16": "fp32+product=fp16"}


@implements("moe_logits", profile=LOGITS, packages=PACKAGES)
def moe_logits(x, weight):  # type: ignore[no-untyped-def] # as the op
    E, D = weight.shape
    if not x.numel():  # no call of the package's
        return x.new_zeros(x.shape[0], E, dtype=torch.float32)
    gate = Gate(arguments(hidden_size=D, num_experts=E))
    gate.gate_proj.weight = mlx(weight)
    return torched(gate.gate_proj(mlx(x)).astype(mx.float32))


@implements("moe_route", profile={"float32": "fp32"}, packages=PACKAGES)
def moe_route(logits, bias, *, groups, top_groups, top_k, scaling):  # type: ignore[no-untyped-def] # as the op
    T, E = logits.shape
    if not T:
        return logits.new_empty(0, top_k), logits.new_empty(0, top_k, dtype=torch.int64)
    given = arguments(
        num_experts=E, n_group=groups, topk_group=top_groups, num_experts_per_tok=top_k,
        routed_scaling_factor=scaling,
    )  # fmt: skip
    gate = Gate(given)
    gate.gate_proj = lambda x: x
    gate.expert_bias = mlx(bias)
    experts, weights = gate(mlx(logits))
    return torched(weights), torched(experts.astype(mx.int64))


# In 16 bits the weights are stored in the dtype of x (Gate.__call__, `scores.astype(in_type)`), and
# so are their products with the results and the sums: not declared.
@implements("moe_experts", profile={"float32": "fp32"}, packages=PACKAGES)
def moe_experts(x, gate_up, down, experts, weights):  # type: ignore[no-untyped-def] # as the op
    """Experts of other ranks, which it does not know, are any expert with weight 0."""
    if not x.numel():
        return torch.empty_like(x)
    E, D, hidden = down.shape
    given = arguments(hidden_size=D, num_experts=E, moe_intermediate_size=hidden)
    block = SparseMoeBlock(given)
    gate, up = gate_up.chunk(2, dim=1)
    for name, matrix in (("gate_proj", gate), ("up_proj", up), ("down_proj", down)):
        block.switch_mlp[name].weight = mlx(matrix)
    foreign = experts < 0
    ids = mlx(experts.masked_fill(foreign, 0)).astype(mx.uint32)
    block.gate = lambda _: (ids, mlx(weights.masked_fill(foreign, 0.0)))
    return torched(block(mlx(x)))
