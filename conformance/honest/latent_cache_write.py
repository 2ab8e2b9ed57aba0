"""Right writing of the latent cache in several forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._mla import Tensor, write

OP = "latent_cache_write"
ALL = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}


@honest(OP, profile=ALL, differs="one token after another")
def writes_one_token_after_another(*call: Any) -> None:
    write(*call)


@honest(OP, profile=ALL, differs="all live rows at once, latent and rotated key apart")
def writes_both_parts_of_all_rows_at_once(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    live = slots >= 0
    slot, L, G = slots[live].long(), latent.shape[1], cache.shape[1]
    cache[slot // G, slot % G, :L] = latent[live]
    cache[slot // G, slot % G, L:] = rope[live]


@honest(OP, profile=ALL, differs="as integers of the same size, pages in reverse")
def writes_integers_of_the_same_size(
    latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor
) -> None:
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[cache.element_size()]
    row = torch.cat([latent.contiguous().view(kind), rope.contiguous().view(kind)], dim=1)
    G = cache.shape[1]
    for t in reversed(range(len(slots))):
        slot = int(slots[t])
        if slot != -1:
            cache[slot // G, slot % G] = row[t].view(cache.dtype)


@honest(
    OP, array="numpy", profile={"float64": "fp64", "float32": "fp32", "float16": "fp32"},
    differs="NumPy, indices of rows",
)  # fmt: skip
def writes_rows_with_numpy(latent: Any, rope: Any, cache: Any, slots: Any) -> None:
    live = np.flatnonzero(np.asarray(slots) >= 0)
    page, row = np.divmod(np.asarray(slots)[live], cache.shape[1])
    cache[page, row, : latent.shape[1]] = latent[live]
    cache[page, row, latent.shape[1] :] = rope[live]
