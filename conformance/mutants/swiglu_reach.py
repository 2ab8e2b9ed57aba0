"""Gated activations that break one law and no other."""

from __future__ import annotations

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import (
    Buffers,
    Tuned,
    as_if_dense,
    either,
    left_over,
    packed_if_sparse,
    through_float16,
)
from lingspec.conformance.mutants._rows import NARROW, Tensor, activated, directed

OP = "swiglu"


@mutant(
    OP,
    law="homogeneity",
    profile=NARROW,
    source="constructed after H11 https://github.com/ggml-org/llama.cpp/pull/25389",
    looks_like="the second half passes through float16",
)
def passes_the_second_half_through_float16(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    loud = up.abs() > 2.0**16
    return activated(torch.cat([gate, torch.where(loud, through_float16(up), up)], -1))


@mutant(
    OP,
    law="additivity",
    source="constructed",
    looks_like="rows with zeros among their ups are packed, and stay so",
)
def packs_rows_of_sparse_ups(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return activated(torch.cat([gate, packed_if_sparse(up)], -1))


@mutant(
    OP,
    law="exact",
    profile=NARROW,
    source="constructed after tables of a sigmoid",
    looks_like="the sigmoid is read from a table that ends before 1",
)
def reads_the_sigmoid_from_a_table_that_ends(gate_up: Tensor) -> Tensor:
    gate, up = (x.float() for x in gate_up.chunk(2, dim=-1))
    return (gate * torch.sigmoid(gate).clamp(max=1 - 2.0**-8.3) * up).to(gate_up.dtype)


@mutant(
    OP,
    law="identities",
    source="constructed",
    looks_like="no more than 512 channels are computed",
)
def computes_512_channels_at_most(gate_up: Tensor) -> Tensor:
    made = activated(gate_up)
    y = torch.empty(made.shape, dtype=made.dtype)
    y[..., :512] = made[..., :512]
    return y


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="a flag that nobody has set chooses between two evaluations of the sigmoid",
)
def chooses_the_sigmoid_by_an_unset_flag(gate_up: Tensor) -> Tensor:
    return activated(gate_up, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change how the sigmoid is evaluated",
)
def tunes_the_activation_again(gate_up: Tensor) -> Tensor:
    return activated(gate_up, wide=either(tuned(gate_up)))


@mutant(
    OP,
    law="permutation",
    batch_invariant=True,
    source="constructed after H13",
    looks_like="an odd batch is evaluated in another way, though none is said to be",
)
def evaluates_an_odd_batch_in_another_way(gate_up: Tensor) -> Tensor:
    return activated(gate_up, wide=either(gate_up.shape[0] % 2))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the activations lie in a buffer that the next call writes",
)
def returns_the_activations_in_one_buffer(gate_up: Tensor) -> Tensor:
    return buffers(activated(gate_up))


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the projection are taken to be neighbours in memory",
)
def takes_channels_of_the_projection_for_neighbours(gate_up: Tensor) -> Tensor:
    return activated(as_if_dense(gate_up))


@mutant(
    OP,
    law="bias",
    profile=NARROW,
    source="constructed after F10 https://github.com/ROCm/aiter/issues/5151",
    looks_like="activations are rounded toward zero more often than away from it",
)
def rounds_activations_toward_zero_too_often(gate_up: Tensor) -> Tensor:
    gate, up = (x.float() for x in gate_up.chunk(2, dim=-1))
    return directed(0.75)(gate * torch.sigmoid(gate) * up).to(gate_up.dtype)
