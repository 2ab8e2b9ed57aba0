"""Gated group norms that break one law and no other."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import (
    Buffers,
    Tuned,
    as_if_dense,
    below_four,
    either,
    left_over,
    zero_is_one,
)
from lingspec.conformance.mutants._rows import (
    NARROW,
    Tensor,
    directed,
    estimated_root,
    gated,
    parted,
    unit,
)

OP = "gated_group_rms_norm"


@mutant(
    OP,
    law="groups",
    profile=NARROW,
    source="constructed",
    looks_like="sums of squares are differences of a running total",
)
def takes_group_sums_as_differences_of_a_running_total(*call: Any, **options: Any) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        total = rows.square().sum(-1).cumsum(-1)
        before = torch.nn.functional.pad(total[..., :-1], (1, 0))
        return ((total - before) / rows.shape[-1]).unsqueeze(-1)

    return gated(*call, **options, mean=mean)


@mutant(
    OP,
    law="identities",
    source="constructed",
    looks_like="the statistics of eight groups are kept, further ones share the last",
)
def keeps_the_statistics_of_eight_groups(*call: Any, **options: Any) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        each = rows.square().mean(-1, keepdim=True)
        last = each[..., 7:8, :]
        return torch.cat([each[..., :8, :], last.expand_as(each[..., 8:, :])], -2)

    return gated(*call, **options, mean=mean)


@mutant(
    OP,
    law="invariance",
    source="constructed after F16 https://github.com/mosaicml/llm-foundry/issues/371",
    looks_like="eps is never taken below 1e-8",
)
def never_takes_eps_below_a_hundred_millionth(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    return gated(x, gate, weight, groups=groups, eps=max(eps, 1e-8))


@mutant(
    OP,
    law="homogeneity",
    source="constructed after F18 https://github.com/sgl-project/sglang/issues/32807",
    looks_like="weights of channels are held as fixed-point numbers below 4",
)
def holds_weights_of_channels_below_four(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    return gated(x, gate, below_four(weight), groups=groups, eps=eps)


@mutant(
    OP,
    law="exact",
    profile=NARROW,
    source="constructed after vrsqrte, whose result has eight bits",
    looks_like="the estimate of a group's root is not refined",
)
def estimates_the_root_of_a_group(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    grouped = parted(x, groups).float()
    rows = unit(grouped, eps, inverse=estimated_root).flatten(-2) * weight.float()
    return (rows * torch.sigmoid(gate.float())).to(x.dtype)


@mutant(
    OP,
    law="additivity",
    source="constructed",
    looks_like="a channel whose weight is zero is left unweighed",
)
def leaves_channels_of_zero_weight_unweighed(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    return gated(x, gate, zero_is_one(weight), groups=groups, eps=eps)


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="the order in which a group is added up is found in unwritten memory",
)
def adds_groups_up_as_unwritten_memory_says(*call: Any, **options: Any) -> Tensor:
    return gated(*call, **options, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change the configuration of the gated norm",
)
def tunes_the_gated_norm_again(x: Tensor, *call: Any, **options: Any) -> Tensor:
    return gated(x, *call, **options, wide=either(tuned(x)))


@mutant(
    OP,
    law="permutation",
    batch_invariant=True,
    source="constructed after H13",
    looks_like="the number of rows chooses how groups are added up, though none is said to",
)
def adds_groups_up_by_the_number_of_rows(x: Tensor, *call: Any, **options: Any) -> Tensor:
    return gated(x, *call, **options, wide=either(x.shape[0] % 2))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the gated rows lie in a buffer that the next call writes",
)
def returns_the_gated_rows_in_one_buffer(*call: Any, **options: Any) -> Tensor:
    return buffers(gated(*call, **options))


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels of the gate are taken to be neighbours in memory",
)
def takes_channels_of_the_gate_for_neighbours(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    return gated(x, as_if_dense(gate), weight, groups=groups, eps=eps)


@mutant(
    OP,
    law="bias",
    profile=NARROW,
    source="F20 https://github.com/vllm-project/vllm/pull/56244",
    looks_like="one rounding instead of four, but by dropping bits",
)
def drops_the_bits_of_the_gated_row(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    rows = unit(parted(x, groups), eps).flatten(-2) * weight.float()
    return directed(0.75)(rows * torch.sigmoid(gate.float())).to(x.dtype)
