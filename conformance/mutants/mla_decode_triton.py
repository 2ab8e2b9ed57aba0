"""Wrong Triton kernels for MLA decode."""

from __future__ import annotations

from typing import Any

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla_triton import PROFILES, Result, decode

OP = "mla_decode"


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="constructed after H04 https://github.com/vllm-project/vllm/issues/53982",
    looks_like="the number of blocks of 16 rows is rounded down",
)
def leaves_out_the_last_block_of_rows(*call: Any, **options: Any) -> Result:
    return decode(*call, **options, fault="whole blocks")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="D30 https://github.com/gittensor-ai-lab/sparkinfer/pull/146",
    looks_like="all blocks are read from the first page of the table",
)
def reads_every_block_from_the_first_page(*call: Any, **options: Any) -> Result:
    return decode(*call, **options, fault="first page")


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="constructed after D10 https://github.com/local-inference-lab/vllm/pull/15",
    looks_like="the row of the table is found by M, whatever its stride",
)
def steps_the_table_by_its_entries(*call: Any, **options: Any) -> Result:
    return decode(*call, **options, fault="table by entries")


@mutant(
    OP,
    law="strides",
    profile=PROFILES,
    source="L02 https://github.com/fla-org/flash-linear-attention/commit/854c4ce9",
    looks_like="page times stride is multiplied in 32 bits and widened after",
)
def multiplies_page_and_stride_in_32_bits(*call: Any, **options: Any) -> Result:
    return decode(*call, **options, fault="int32 offsets")


@mutant(
    OP,
    law="authority",
    profile=PROFILES,
    source="L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="rows that are not loaded have a score of 0 and count",
)
def gives_masked_rows_a_score_of_zero(*call: Any, **options: Any) -> Result:
    return decode(*call, **options, fault="zeros as scores")
