"""Lightning attention whose outputs are right and whose gradients are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import CHUNK, Result, Tensor, chunked, keep
from lingspec.conformance.mutants._lightning_backward import (
    Chunk,
    S_after,
    S_within,
    k_after,
    k_within,
    q_before,
    q_within,
    two_pass,
    v_after,
    v_within,
)
from lingspec.conformance.mutants.lightning_attention_memory import contiguous_strides, gather

OP = "lightning_attention"
FLA = "https://github.com/fla-org/flash-linear-attention"


@mutant(
    OP,
    law="gradients",
    backward=True,
    source=f"B01 {FLA}/commit/f238b867",
    looks_like="the gradient of v through the later state lacks the decay to the chunk's end",
)
def forgets_the_decay_in_the_value_gradient_from_later_chunks(
    *call: Any, **options: Any
) -> Result:  # fmt: skip
    return two_pass(*call, **options, d_v=lambda c: v_within(c) + c.k @ c.d_state)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source=f"B03 {FLA}/pull/459",
    looks_like="the gradient that arrives at the final state is dropped",
)
def drops_the_gradient_of_the_final_state(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, arriving_d_state=torch.zeros_like)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source=f"B06 {FLA}/commit/da1970a6",
    looks_like="the memory of the final state's gradient is read as [V, K]",
)
def reads_the_gradient_of_the_final_state_as_values_by_keys(*call: Any, **options: Any) -> Result:
    def misread(d_state: Tensor) -> Tensor:
        N, H, K, V = d_state.shape
        return d_state.reshape(N, H, V, K).mT

    return two_pass(*call, **options, arriving_d_state=misread)


@mutant(
    OP,
    law="gradients",
    backward=True,
    profile={"bfloat16": "bf16-tc"},
    source=f"B09 {FLA}/pull/37",
    looks_like="the gradient of the state is rounded to bfloat16 after every chunk of 16 tokens",
)
def keeps_the_gradient_of_the_state_in_bfloat16(*call: Any, **options: Any) -> Result:
    def rounded(c: Chunk) -> Tensor:
        return (S_within(c) + S_after(c)).to(torch.bfloat16).to(c.d_state.dtype)

    return two_pass(*call, **options, chunk=16, d_start=rounded)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source=f"B13 {FLA}/commit/e4c7f880",
    looks_like="the gradients of q and k are summed over the first 16 value columns only",
)
def sums_over_the_first_block_of_value_columns_only(*call: Any, **options: Any) -> Result:
    def first_block(c: Chunk) -> Chunk:
        columns = {name: getattr(c, name)[..., :16] for name in ("v", "do", "S", "d_state")}
        return replace(c, **columns)

    return two_pass(
        *call, **options,
        d_q=lambda c: q_within(first_block(c)) + q_before(first_block(c)),
        d_k=lambda c: k_within(first_block(c)) + k_after(first_block(c)),
    )  # fmt: skip


@mutant(
    OP,
    law="gradients",
    backward=True,
    source=f"B18 {FLA}/commit/6d80721f",
    looks_like="the gradient of o is addressed as if it were contiguous",
)
def addresses_the_gradient_of_the_output_as_if_contiguous(*call: Any, **options: Any) -> Result:
    def misread(do: Tensor) -> Tensor:
        return gather(do, do.shape, contiguous_strides(do.shape))

    return two_pass(*call, **options, arriving_do=misread)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="constructed",
    looks_like="the gradient of q through the state from before the chunk is missing",
)
def forgets_older_chunks_in_the_query_gradient(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, d_q=q_within)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="constructed",
    looks_like="gradients stop at the borders of chunks, as in truncated backpropagation",
)
def stops_the_gradient_at_the_borders_of_chunks(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, d_start=lambda c: torch.zeros_like(c.d_state))


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="https://github.com/huggingface/accelerate/pull/4177 (J05), as a detached state",
    looks_like="the initial state gets no gradient",
)
def gives_the_initial_state_no_gradient(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    if initial_state is not None:
        initial_state = initial_state.detach() + 0 * initial_state
    return chunked(*call, initial_state=initial_state, **options)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source=f"constructed after B16 {FLA}/commit/a252c17d",
    looks_like="what of the state's gradient passes the chunk unread is lost",
)
def does_not_pass_the_gradient_of_the_state_through(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, d_start=S_within)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="constructed",
    looks_like="the scale is missing in the gradient of k within a chunk",
)
def forgets_the_scale_in_the_key_gradient(*call: Any, **options: Any) -> Result:
    def unscaled(c: Chunk) -> Tensor:
        return k_within(replace(c, scale=1.0)) + k_after(c)

    return two_pass(*call, **options, d_k=unscaled)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="constructed",
    looks_like="the mask of the backward pass leaves out the token itself",
)
def hides_a_token_from_itself_in_the_backward_pass(*call: Any, **options: Any) -> Result:
    def without_itself(c: Chunk) -> Tensor:
        own = (c.q * c.k).sum(-1, keepdim=True) * c.scale * c.do
        return v_within(c) - own + v_after(c)

    return two_pass(*call, **options, d_v=without_itself)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source=f"constructed after A04 {FLA}/commit/0dc28dcd, in the backward pass",
    looks_like="the state's gradient is decayed over a partial chunk as if it were full",
)
def decays_the_gradient_over_a_partial_chunk_as_if_full(*call: Any, **options: Any) -> Result:
    def as_if_full(c: Chunk) -> Tensor:
        return S_within(c) + keep(c.g, CHUNK)[:, None, None] * c.d_state

    return two_pass(*call, **options, d_start=as_if_full)


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="constructed",
    looks_like="the rows of the batch share the gradient of the state",
)
def shares_the_gradient_of_the_state_among_the_batch(*call: Any, **options: Any) -> Result:
    def shared(c: Chunk) -> Tensor:
        return (S_within(c) + S_after(c)).mean(0, keepdim=True).expand_as(c.d_state)

    return two_pass(*call, **options, d_start=shared)
