"""Wrong Triton kernels for MLA attention."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla_triton import PROFILES, Result, attend

OP = "mla_attention"


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="D25 https://github.com/onnx/onnx/pull/8068",
    looks_like="query tile 0 is aligned with key tile 0, whatever came before",
)
def aligns_tiles_at_the_first_key(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, fault="top left")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="D14 https://github.com/flashinfer-ai/flashinfer/issues/4267",
    looks_like="the running maximum of a tile starts at -5e4",
)
def starts_a_tile_at_a_finite_maximum(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, fault="finite maximum")


@mutant(
    OP,
    law="packed",
    profile=PROFILES,
    source="constructed after A07 https://github.com/inclusionAI/cuLA/pull/38",
    looks_like="the last tile of keys is masked by the end of the batch, not of the sequence",
)
def loads_keys_of_the_next_sequence(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, fault="tail unmasked")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="D10 https://github.com/local-inference-lab/vllm/pull/17",
    looks_like="value tiles are addressed with the strides of the keys",
)
def addresses_a_tile_of_values_with_the_strides_of_the_keys(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, fault="strides of keys")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed",
    looks_like="the accumulator is not scaled down when the maximum rises, the sum is",
)
def forgets_to_rescale_the_tile_that_was_summed(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, fault="not rescaled")


@mutant(
    OP,
    law="determinism",
    profile=PROFILES,
    source="constructed after A08 https://github.com/inclusionAI/cuLA/pull/43",
    looks_like="the last tile of queries is stored over the first rows of the next sequence",
)
def stores_a_tile_over_the_next_sequence(*call: Any, **options: Any) -> Result:
    return attend(*call, **options, fault="stores past the end")
