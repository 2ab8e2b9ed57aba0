"""Rows of the latent cache, written in place.

Letters: T tokens, L latent rank, R rotary dims, P pages.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.precision import check_float

__all__ = ["latent_cache_write"]


@on_one_device
def latent_cache_write(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor) -> None:
    """Copy each token's latent and rotated key into its row of a paged cache.

        cache[slots[t] // page, slots[t] % page] = latent[t] | rope[t]

    Args:
        latent: (T, L)           float64, float32, bfloat16 or float16.
        rope:   (T, R)           dtype of ``latent``.
        cache:  (P, page, L + R) dtype of ``latent``. Rows in ``slots`` are overwritten, no others.
        slots:  (T,)             int32 or int64; -1 (nothing is written), or below P * page and
                                 different from all others.

    Precision:
        Nothing rounds: bits are copied.

    Raises:
        ContractError: a shape, a dtype or a slot that is not as above.

    Source:
        The latent cache of DeepSeek-V2, arXiv 2405.04434, section 2.1; slots as in
        vllm @055e47c, concat_and_cache_mla.
    """
    check_float(latent, "latent")
    require(latent.dim() == 2, "latent", "shape", tuple(latent.shape), "(T, L)")
    T, L = latent.shape
    ok = rope.dim() == 2 and rope.shape[0] == T
    require(ok, "rope", "shape", tuple(rope.shape), f"({T}, R)")
    ok = cache.dim() == 3 and cache.shape[2] == L + rope.shape[1]
    require(ok, "cache", "shape", tuple(cache.shape), f"(P, page, {L + rope.shape[1]})")
    for name, x in (("rope", rope), ("cache", cache)):
        require(x.dtype == latent.dtype, name, "dtype", x.dtype, f"{latent.dtype}, as latent")
    ok = slots.dtype in (torch.int32, torch.int64)
    require(ok, "slots", "dtype", slots.dtype, "int32 or int64")
    require(tuple(slots.shape) == (T,), "slots", "shape", tuple(slots.shape), f"({T},)")
    used, rows = [s for s in slots.tolist() if s != -1], cache.shape[0] * cache.shape[1]
    ok = len(set(used)) == len(used) and all(0 <= s < rows for s in used)
    require(ok, "slots", "values", slots.tolist(), f"-1, or distinct slots below {rows}")

    live = slots >= 0
    row = slots[live].long()
    page = cache.shape[1]
    cache[row // page, row % page] = torch.cat([latent, rope], dim=-1)[live]
