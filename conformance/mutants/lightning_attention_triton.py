"""Wrong Triton kernels for lightning attention."""

from __future__ import annotations

from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning_triton import PROFILES, Result, Tensor, lightning

OP = "lightning_attention"
FLA = "https://github.com/fla-org/flash-linear-attention"


@mutant(
    OP,
    law="packed",
    profile=PROFILES,
    source="constructed after A07 https://github.com/inclusionAI/cuLA/pull/38",
    looks_like="the last tile of a sequence loads the tokens of the next one into the state",
)
def loads_the_next_sequence_into_the_last_tile(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="loads past the end")


@mutant(
    OP,
    law="packed",
    profile=PROFILES,
    source="constructed after A08 https://github.com/inclusionAI/cuLA/pull/43",
    looks_like="the last tile of a sequence is stored over the first rows of the next one",
)
def stores_the_last_tile_over_the_next_sequence(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="stores past the end")


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source=f"L02 {FLA}/commit/854c4ce9",
    looks_like="offsets are multiplied in 32 bits and widened after",
)
def widens_offsets_after_multiplying_them(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="int32 offsets")


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="constructed",
    looks_like="the innermost stride is taken to be 1",
)
def takes_the_innermost_stride_to_be_one(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    return lightning(q, k, v, *call, **options, v_strides=(*v.stride()[:3], 1))


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source=f"constructed after B18 {FLA}/commit/71ebc498",
    looks_like="q is addressed as if it were contiguous",
)
def addresses_the_queries_as_if_contiguous(q: Tensor, *call: Any, **options: Any) -> Result:
    contiguous = torch.empty(q.shape, device="meta").stride()
    return lightning(q, *call, **options, q_strides=contiguous)


@mutant(
    OP,
    law="untouched",
    profile=PROFILES,
    source=f"L04 {FLA}/commit/ccb0ff94",
    looks_like="every block of 16 value columns is stored at column 0",
)
def stores_every_tile_of_value_columns_at_column_zero(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="columns at zero")


@mutant(
    OP,
    law="untouched",
    profile=PROFILES,
    source="constructed",
    looks_like="the number of tiles is rounded down: the last tokens are never computed",
)
def rounds_the_number_of_tiles_down(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="no tail")


@mutant(
    OP,
    law="untouched",
    profile=PROFILES,
    source="constructed",
    looks_like="the final state of sequences shorter than a tile is never written",
)
def stores_no_state_for_sequences_shorter_than_a_tile(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="no state of short sequences")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed",
    looks_like="lanes past K are not masked and hold the next head's q and k",
)
def multiplies_the_lanes_of_the_next_head(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="lanes unmasked")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source=f"constructed after A20 {FLA}/commit/40334f1c",
    looks_like="the decay is that of head (h + n) mod H in sequence n",
)
def takes_the_decay_by_head_and_sequence(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="decay by sequence")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source=f"A09 {FLA}/commit/cb36e67a",
    looks_like="the exponential is multiplied by the mask: infinity times 0 at strong decay",
)
def multiplies_a_tile_of_exponentials_by_the_mask(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="exp before mask", chunk=64)


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed",
    looks_like="the state is read after the tile's own tokens were added to it",
)
def reads_the_state_after_adding_the_tile(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="reads the new state")


@mutant(
    OP,
    law="authority",
    profile={"float32": "fp32"},
    source=f"A41 {FLA}/issues/389",
    looks_like="float32 products are left at Triton's default, tf32, and declared as fp32",
)
def leaves_float32_products_at_tf32(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, precision="tf32")


@mutant(
    OP,
    law="authority",
    profile={"bfloat16": "bf16-tc"},
    source="A39 https://github.com/xLLM-AI/xllm/pull/2055",
    looks_like="the carried state is rounded to bfloat16 after every tile of 16 tokens",
)
def carries_the_state_in_the_inputs_dtype(*call: Any, **options: Any) -> Result:
    return lightning(*call, **options, fault="narrow state")
