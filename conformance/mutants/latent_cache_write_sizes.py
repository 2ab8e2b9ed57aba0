"""Writing of the latent cache that is right for few tokens and usual widths."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._memory import as_if_aligned
from lingspec.conformance.mutants._mla import Tensor, write

OP = "latent_cache_write"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="tokens from the 256th on are not written",
)  # fmt: skip
def writes_256_tokens(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    write(latent[:256], rope[:256], cache, slots[:256])


@mutant(
    OP, law="strides",
    source="constructed",
    looks_like="latents are read from the address below that 16 divides",
)  # fmt: skip
def reads_latents_at_multiples_of_16_bytes(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    write(as_if_aligned(latent), rope, cache, slots)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 256 channels, those behind the last whole tile of 256 are not written",
)  # fmt: skip
def writes_whole_tiles_of_a_wide_latent(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    L, kept = latent.shape[-1], cache.clone()
    write(latent, rope, cache, slots)
    if L > 256:
        cache[..., L // 256 * 256 : L] = kept[..., L // 256 * 256 : L]
