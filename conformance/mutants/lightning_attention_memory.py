"""Lightning attention that reads or writes memory which it should not."""

from __future__ import annotations

from itertools import count
from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import CHUNK, Result, Tensor, chunked, steps

OP = "lightning_attention"
FLA = "https://github.com/fla-org/flash-linear-attention"


def gather(x: Tensor, shape: torch.Size, strides: tuple[int, ...], int32: bool = False) -> Tensor:
    """The elements at these strides from the first element of ``x``, wrapped into its storage."""
    size = x.untyped_storage().nbytes() // x.element_size()
    if not size:
        return x.new_zeros(shape)
    everything = x.as_strided((size,), (1,), 0)
    offset = torch.zeros((), dtype=torch.int32 if int32 else torch.int64)
    for axis, (length, stride) in enumerate(zip(shape, strides, strict=True)):
        along = torch.arange(length, dtype=torch.int64) * stride
        along = along.to(offset.dtype)  # wraps as 32-bit registers do
        offset = offset + along.reshape([-1] + [1] * (len(shape) - axis - 1))
    return everything[(offset.long() + x.storage_offset()) % size]


def contiguous_strides(shape: torch.Size) -> tuple[int, ...]:
    """The strides of a contiguous tensor."""
    return torch.empty(shape, device="meta").stride()


@mutant(
    OP,
    law="strides",
    source=f"constructed after B18 {FLA}/commit/71ebc498",
    looks_like="k is addressed as if it were contiguous",
)
def addresses_the_keys_as_if_contiguous(q: Tensor, k: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, gather(k, k.shape, contiguous_strides(k.shape)), *call, **options)


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="the initial state is addressed as if it were contiguous",
)
def addresses_the_initial_state_as_if_contiguous(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    if initial_state is not None:
        shape = initial_state.shape
        initial_state = gather(initial_state, shape, contiguous_strides(shape))
    return chunked(*call, initial_state=initial_state, **options)


@mutant(
    OP,
    law="authority",
    source="constructed after M05 https://github.com/huggingface/transformers/pull/35943",
    looks_like="v is addressed with the strides of k, which fit only if K = V",
)
def addresses_the_values_with_the_strides_of_the_keys(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    return chunked(q, k, gather(v, v.shape, k.stride()), *call, **options)


@mutant(
    OP,
    law="strides",
    source=f"L01 {FLA}/commit/31d15f75",
    looks_like="offsets into v are computed in 32 bits",
)
def computes_offsets_into_the_values_in_32_bits(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    return chunked(q, k, gather(v, v.shape, v.stride(), int32=True), *call, **options)


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="q is multiplied by the scale in place",
)
def scales_the_queries_in_place(q: Tensor, *call: Any, scale: float, **options: Any) -> Result:
    return chunked(q.mul_(scale), *call, scale=1.0, **options)


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="the final state is written over the initial state",
)
def writes_the_final_state_over_the_initial_one(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(*call, initial_state=initial_state, **options)
    return o, state if initial_state is None else initial_state.copy_(state)


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="log_decay is overwritten with its exponential",
)
def overwrites_the_log_decay_with_the_decay(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    result = chunked(q, k, v, log_decay, **options)
    log_decay.exp_()
    return result


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="a call without tokens returns the initial state itself, not a copy",
)
def returns_the_initial_state_itself_if_there_are_no_tokens(
    q: Tensor, *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(q, *call, initial_state=initial_state, **options)
    return o, state if q.shape[1] or initial_state is None else initial_state


@mutant(
    OP,
    law="untouched",
    source="constructed",
    looks_like="one element behind the last of v is written",
)
def writes_one_element_behind_the_values(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    result = chunked(q, k, v, *call, **options)
    if v.numel():
        size = v.untyped_storage().nbytes() // v.element_size()
        reach = sum((n - 1) * s for n, s in zip(v.shape, v.stride(), strict=True))
        behind = v.storage_offset() + reach + 1
        if behind < size:
            v.detach().as_strided((1,), (1,), behind).zero_()
    return result


@mutant(
    OP,
    law="authority",
    source=f"constructed after L09 {FLA}/commit/ebd4dd27",
    looks_like="one key and value behind the last are read and written into the final state",
)
def reads_one_token_behind_the_last(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    def behind(x: Tensor) -> Tensor:
        B, T, H, D = x.shape
        return gather(x, torch.Size((B, T + 1, H, D)), x.stride())[:, T]

    o, state = chunked(q, k, v, *call, **options)
    if options.get("cu_seqlens") is not None:
        return o, state
    return o, state + behind(k).to(state.dtype)[..., :, None] * behind(v)[..., None, :]


@mutant(
    OP,
    law="untouched",
    source="constructed after A08 https://github.com/inclusionAI/cuLA/pull/43",
    looks_like="the rows past the last multiple of 16 are never written",
)
def leaves_the_rows_past_the_last_full_tile_unwritten(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    written = torch.empty(o.shape, dtype=o.dtype, device=o.device)
    full = o.shape[1] // 16 * 16
    written[:, :full] = o[:, :full]
    return written, state


@mutant(
    OP,
    law="untouched",
    source=f"L04 {FLA}/commit/ccb0ff94",
    looks_like="every block of 32 value columns is stored at column 0",
)
def stores_every_block_of_value_columns_at_the_first(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    written = o.new_empty(o.shape)
    for block in torch.split(o, 32, dim=-1):
        written[..., : block.shape[-1]] = block
    return written, state


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="an accumulator is not cleared before the first chunk",
)
def accumulates_into_memory_that_was_not_cleared(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    o, state = chunked(q, k, v, *call, **options)
    sum_of_products = torch.empty_like(o)
    if q.shape[1] > CHUNK:
        sum_of_products[:, CHUNK:] = 0
    return sum_of_products + o, state


@mutant(
    OP,
    law="determinism",
    source="constructed after A46 https://github.com/flashserve/flash-linear-attention-npu/issues/440",
    looks_like="every third call loses its last row, as to a race",
)
def loses_the_last_row_in_every_third_call(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    if next(CALLS) % 3 == 2:
        o = o * (steps(o.shape[1], state) < o.shape[1] - 1).to(o.dtype)[:, None, None]
    return o, state


CALLS = count()


@mutant(
    OP,
    law="determinism",
    source="https://github.com/flashinfer-ai/flashinfer-bench-starter-kit/issues/21",
    looks_like="the answer is remembered by the address and shape of q",
)
def remembers_the_answer_by_the_address_of_the_queries(
    q: Tensor, *call: Any, **options: Any
) -> Result:
    key = (q.data_ptr(), q.shape, q.dtype)
    if key not in BY_ADDRESS:
        BY_ADDRESS[key] = chunked(q, *call, **options)
    return BY_ADDRESS[key]


@mutant(
    OP,
    law="homogeneity",
    source="constructed after C30 https://github.com/sgl-project/sglang-jax/pull/928",
    looks_like="the answer is remembered by the shape and dtype of the inputs",
)
def remembers_the_answer_by_the_shapes_of_the_inputs(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    key = (q.shape, v.shape, q.dtype)
    if key not in BY_SHAPE:
        BY_SHAPE[key] = chunked(q, k, v, *call, **options)
    return BY_SHAPE[key]


BY_ADDRESS: dict[tuple[Any, ...], Result] = {}
BY_SHAPE: dict[tuple[Any, ...], Result] = {}


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="o is returned in float32 whatever the dtype of q",
)
def returns_the_output_in_float32(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    return chunked(q.float(), k.float(), v.float(), *call, **options)
