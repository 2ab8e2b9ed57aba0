"""Gated activations that compute something else."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import HALF, NARROW, Tensor, activated, work_dtype

OP = "swiglu"


@mutant(
    OP,
    law="authority",
    source="H09 https://github.com/ml-explore/mlx-lm/pull/767",
    looks_like="the second half is activated, not the first",
)
def activates_the_second_half(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return activated(torch.cat([up, gate], -1))


@mutant(
    OP,
    law="authority",
    source="H09 https://github.com/ROCm/ATOM/pull/885",
    looks_like="gates and ups are taken to alternate",
)
def takes_gates_and_ups_in_turn(gate_up: Tensor) -> Tensor:
    return activated(torch.cat([gate_up[..., 0::2], gate_up[..., 1::2]], -1))


@mutant(
    OP,
    law="authority",
    source="H10 https://github.com/sgl-project/sglang/pull/36312",
    looks_like="the clamps of another model are kept, after the activation",
)
def clamps_after_the_activation(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    wide = gate.to(work_dtype(gate))
    opened = (wide * torch.sigmoid(wide)).clamp(max=7.0).to(gate.dtype)
    return opened * up.clamp(-7.0, 7.0)


@mutant(
    OP,
    law="authority",
    source="constructed after H10 https://github.com/sgl-project/sglang/pull/39920",
    looks_like="gates are clamped before the activation",
)
def clamps_gates_before_the_activation(gate_up: Tensor) -> Tensor:
    return activated(gate_up, silu=lambda g: g.clamp(max=10.0) * torch.sigmoid(g.clamp(max=10.0)))


@mutant(
    OP,
    law="authority",
    profile=HALF,
    source="H11 https://github.com/ggml-org/llama.cpp/pull/25389",
    looks_like="gate and up are multiplied first, in float16, where the product overflows",
)
def multiplies_gate_and_up_first(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return ((gate * up).float() * torch.sigmoid(gate.float())).to(gate.dtype)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the sigmoid is a quotient of exponentials, of which both overflow",
)
def divides_two_exponentials(gate_up: Tensor) -> Tensor:
    return activated(gate_up, silu=lambda g: g * torch.exp(g) / (1 + torch.exp(g)))


@mutant(
    OP,
    law="authority",
    source="constructed after GELU in the place of SiLU",
    looks_like="the activation is GELU by its sigmoid, g sigmoid(1.702 g)",
)
def activates_with_gelu(gate_up: Tensor) -> Tensor:
    return activated(gate_up, silu=lambda g: g * torch.sigmoid(1.702 * g))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the gate is a sigmoid without its argument, as in GLU",
)
def gates_with_a_sigmoid_alone(gate_up: Tensor) -> Tensor:
    return activated(gate_up, silu=torch.sigmoid)


@mutant(
    OP,
    law="authority",
    source="B25 https://github.com/ByteDance-Seed/Triton-distributed/issues/180",
    looks_like="every row is written to the first",
)
def writes_every_row_to_the_first(gate_up: Tensor) -> Tensor:
    made = activated(gate_up)
    y = torch.empty(made.shape, dtype=made.dtype)
    if made.numel():
        y.view(-1, made.shape[-1])[0] = made.reshape(-1, made.shape[-1])[-1]
    return y


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="channels are computed in pairs, the last of an odd number is not",
)
def computes_channels_in_pairs(gate_up: Tensor) -> Tensor:
    made = activated(gate_up)
    y = torch.empty(made.shape, dtype=made.dtype)
    even = made.shape[-1] // 2 * 2
    y[..., :even] = made[..., :even]
    return y


@mutant(
    OP,
    law="authority",
    profile=NARROW,
    source="constructed after H14 https://github.com/linkedin/Liger-Kernel/commit/57848d53",
    looks_like="the exponential of the sigmoid and its sum are bfloat16",
)
def takes_the_sigmoid_in_bfloat16(gate_up: Tensor) -> Tensor:
    def silu(gate: Tensor) -> Tensor:
        falling = torch.exp(-gate).to(torch.bfloat16)
        return gate / (1 + falling).float()

    return activated(gate_up, silu=silu)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="shards of the fused projection are cut without regard to its halves",
)
def cuts_the_projection_without_regard_to_halves(gate_up: Tensor, **options: Any) -> Tensor:
    shards = [activated(shard, **options) for shard in gate_up.chunk(2, dim=-1)]
    wrong = gate_up.shape[-1] % 4 == 0
    return torch.cat(shards, -1) if wrong else activated(gate_up, **options)
