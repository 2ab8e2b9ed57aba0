"""Rotary tables that break one law and no other."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import Buffers, Tuned, either, left_over
from lingspec.conformance.mutants._memory import on_the_object
from lingspec.conformance.mutants._rope import Result, Tensor, table

OP = "rope_table"


@mutant(
    OP,
    law="exact",
    source="constructed",
    looks_like="a sine is the cosine of its angle less a quarter turn, which is rounded",
)
def takes_sines_for_late_cosines(positions: Tensor, **options: Any) -> Result:
    def waves(angle: Tensor) -> Result:
        quarter = torch.tensor(torch.pi / 2, dtype=torch.float32)
        return angle.cos(), (angle.double() - quarter.double()).cos().to(angle.dtype)

    return table(positions, **options, waves=waves)


@mutant(
    OP,
    law="identities",
    source="constructed after E10 https://github.com/vllm-project/vllm/pull/48351",
    looks_like="YaRN is not seen where its kind has the older name of the key",
)
def does_not_see_the_older_name_of_the_kind(
    positions: Tensor, *, rotary_dim: int, theta: float, scaling: Any = None
) -> Result:
    seen = scaling if scaling and "rope_type" in scaling else None
    return table(positions, rotary_dim=rotary_dim, theta=theta, scaling=seen)


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="unwritten memory chooses how cosines are evaluated",
)
def evaluates_cosines_as_unwritten_memory_says(positions: Tensor, **options: Any) -> Result:
    return table(positions, **options, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change how cosines are evaluated",
)
def tunes_the_table_again(positions: Tensor, **options: Any) -> Result:
    return table(positions, **options, wide=either(tuned(positions)))


@mutant(
    OP,
    law="permutation",
    batch_invariant=True,
    source="constructed after H13",
    looks_like="the table of an odd batch is evaluated in another way",
)
def evaluates_the_table_of_an_odd_batch_in_another_way(positions: Tensor, **options: Any) -> Result:
    return table(positions, **options, wide=either(positions.shape[0] % 2))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="sines lie in a buffer that the next call writes",
)
def returns_the_sines_in_one_buffer(positions: Tensor, **options: Any) -> Result:
    cos, sin = table(positions, **options)
    return cos, buffers(sin)


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="positions are read one after another, whatever their strides",
)
def reads_positions_one_after_another(positions: Tensor, **options: Any) -> Result:
    dense = torch.empty(positions.shape, device="meta").stride()
    if positions.numel() and positions.stride() != dense:
        flat = positions.flatten()
        at = torch.arange(flat.numel()) * (positions.stride(-1) > 1)
        positions = flat[(at + torch.arange(flat.numel())) % flat.numel()].view(positions.shape)
    return table(positions, **options)


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="the angles of a tensor of positions are kept on it",
)
def keeps_the_positions_of_a_tensor(positions: Tensor, **options: Any) -> Result:
    return table(on_the_object(positions, positions.clone), **options)
