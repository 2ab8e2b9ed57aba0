"""Writing of the latent cache that goes wrong just inside what the specification says."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Tensor, write

OP = "latent_cache_write"


@mutant(
    OP,
    law="authority",
    source="constructed after slots that engines keep for padding",
    looks_like="the last row of the cache is kept for padding, and never written",
)
def keeps_the_last_row_of_the_cache_for_padding(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    last = cache.shape[0] * cache.shape[1] - 1
    write(latent, rope, cache, slots.masked_fill(slots == last, -1))
