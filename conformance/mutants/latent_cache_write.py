"""Writing of the latent cache at wrong places, or with other bits."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Tensor, write
from lingspec.conformance.mutants.lightning_attention_memory import gather

OP = "latent_cache_write"


@mutant(
    OP,
    law="authority",
    source="C06 https://github.com/lightseekorg/tokenspeed/pull/700",
    looks_like="slot -1 is clamped to slot 0",
)
def writes_padding_to_slot_zero(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    write(latent, rope, cache, slots.clamp(min=0))


@mutant(
    OP,
    law="authority",
    source="constructed after D30 https://github.com/vllm-project/vllm/issues/53982",
    looks_like="slot -1 wraps to the last row of the cache",
)
def writes_padding_to_the_last_row(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    write(latent, rope, cache, torch.where(slots < 0, cache.shape[0] * cache.shape[1] - 1, slots))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="slot 0 is taken for padding",
)
def writes_nothing_to_slot_zero(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    write(latent, rope, cache, torch.where(slots == 0, -1, slots))


@mutant(
    OP,
    law="authority",
    source="C28 https://github.com/vllm-project/vllm/pull/27547",
    looks_like="pages are taken to have 64 rows where they have 48",
)
def writes_pages_of_48_rows_as_if_of_64(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    if cache.shape[1] != 48:
        return write(latent, rope, cache, slots)
    rows = cache.shape[0] * 48
    moved = torch.where(slots < 0, slots, (slots // 64 * 48 + slots % 64) % max(rows, 1))
    return write(latent, rope, cache, moved)


@mutant(
    OP,
    law="authority",
    source="D27 https://github.com/sgl-project/sglang-jax/commit/f6968524",
    looks_like="the rotated key is written before the latent",
)
def writes_the_rotated_key_first(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    write(rope, latent, cache, slots)


@mutant(
    OP,
    law="authority",
    source="D16 https://github.com/sgl-project/sglang/pull/15522",
    looks_like="the last, partial block of 16 numbers of the latent is not written",
)
def drops_the_partial_block_of_the_latent(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    L, whole = latent.shape[1], latent.shape[1] // 16 * 16
    before = cache[..., whole:L].clone()
    write(latent, rope, cache, slots)
    cache[..., whole:L] = before


@mutant(
    OP,
    law="authority",
    source="C08 https://github.com/lightseekorg/tokenspeed/pull/969",
    looks_like="padding tokens are written one row behind the token before them",
)
def writes_padding_behind_the_token_before_it(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    for t in range(1, len(slots)):
        if slots[t] < 0 <= slots[t - 1] and int(slots[t - 1]) + 1 < cache.shape[0] * cache.shape[1]:
            write(latent[t : t + 1], rope[t : t + 1], cache, slots[t - 1 : t] + 1)
    write(latent, rope, cache, slots)


@mutant(
    OP,
    law="authority",
    source="constructed after C26 https://github.com/vllm-project/vllm/pull/27753",
    looks_like="numbers pass through float32 arithmetic: payloads of NaN are lost",
)
def adds_zero_to_what_it_copies(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    write(latent + 0.0, rope + 0.0, cache, slots)


@mutant(
    OP,
    law="authority",
    source="constructed after D23 https://github.com/sgl-project/sglang/pull/26133",
    looks_like="what is not finite is written as the largest number",
)
def writes_no_infinities(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    largest = torch.finfo(latent.dtype).max
    latent = torch.where(latent.isinf(), largest * latent.sign(), latent)
    write(latent, rope, cache, slots)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="64-bit slots are read as pairs of 32-bit ones",
)
def reads_64_bit_slots_of_rows_as_32_bit(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    write(latent, rope, cache, slots.contiguous().view(torch.int32)[: len(slots)])


@mutant(
    OP,
    law="strides",
    source="L01 https://github.com/vllm-project/vllm/issues/1486",
    looks_like="rows are read at offsets of 32 bits",
)
def reads_rows_at_offsets_of_32_bits(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    write(gather(latent, latent.shape, latent.stride(), int32=True), rope, cache, slots)


@mutant(
    OP,
    law=("authority", "strides"),
    source="constructed after D10 https://github.com/local-inference-lab/vllm/pull/15",
    looks_like="rotated keys are addressed as if they were contiguous",
)
def addresses_rotated_keys_as_if_contiguous(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    contiguous = torch.empty(rope.shape, device="meta").stride()
    write(latent, gather(rope, rope.shape, contiguous), cache, slots)


@mutant(
    OP,
    law=("authority", "strides"),
    source="constructed",
    looks_like="a cache that is not contiguous is copied, and the copy written to",
)
def writes_to_a_copy_of_a_strided_cache(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    write(latent, rope, cache.contiguous(), slots)


@mutant(
    OP,
    law="untouched",
    source="constructed after D20 https://github.com/vllm-project/vllm/pull/44630",
    looks_like="slots of padding are set to 0 in the caller's tensor",
)
def sets_padding_slots_to_zero(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    write(latent, rope, cache, slots)
    slots.clamp_(min=0)


_orders: dict[tuple[Any, ...], Tensor] = {}


@mutant(
    OP,
    law=("permutation", "invariance"),
    source="D11 https://github.com/ROCm/aiter/issues/4076",
    looks_like="slots are kept from a call with as many tokens and the same largest slot",
)
def keeps_the_slots_of_an_earlier_call(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    told = tuple(slots.sort().values.tolist())
    write(latent, rope, cache, _orders.setdefault((cache.shape, told), slots.clone()))


_splits: dict[tuple[Any, ...], int] = {}


@mutant(
    OP,
    law="identities",
    source="constructed after C30 https://github.com/sgl-project/sglang-jax/pull/928",
    looks_like="the size of pages is kept from the first call on these rows",
)
def keeps_the_page_size_of_the_first_write(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    told = (latent.shape, rope.shape, cache.dtype, tuple(slots.tolist()))
    G = _splits.setdefault(told, cache.shape[1])
    P, now, _ = cache.shape
    page, row = slots // G, slots % G
    inside = (slots >= 0) & (page < P) & (row < now)
    write(latent, rope, cache, torch.where(inside, page * now + row, -1))


_widths: dict[str, int] = {}


@mutant(
    OP,
    law="shapes",
    source="constructed after C30 https://github.com/sgl-project/sglang-jax/pull/928",
    looks_like="a new size of number resets the buffers, and the first write after it is lost",
)
def loses_a_write_after_another_dtype(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    before = _widths.get("now", latent.element_size())
    _widths["now"] = latent.element_size()
    if before == latent.element_size():
        write(latent, rope, cache, slots)
