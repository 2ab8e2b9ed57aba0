"""MLA attention that is right for few heads, sequences and keys."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._mla import Result, Tensor, attention

OP = "mla_attention"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="several queries see 512 keys at most, the last ones",
)  # fmt: skip
def sees_the_last_512_keys(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Result:
    if options.get("cu_seqlens") is None and q.shape[1] > 1:
        k, v = k[:, -512:], v[:, -512:]
    return attention(q, k, v, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="heads from the eighth on see the keys of the first eight",
)  # fmt: skip
def holds_the_keys_of_eight_heads(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Result:
    heads = torch.arange(k.shape[2]) % 8
    return attention(q, k[:, :, heads], v, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="ends of the keys are read with the width of those of the queries",
)  # fmt: skip
def reads_both_ends_with_one_width(*call: Any, **options: Any) -> Result:
    ends, of_keys = options.get("cu_seqlens"), options.get("cu_seqlens_k")
    if ends is not None and of_keys is not None and ends.dtype != of_keys.dtype:
        options["cu_seqlens_k"] = ends
        q, k, v = call
        call = (q, k[:, : q.shape[1]], v[:, : q.shape[1]])
    return attention(*call, **options)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 16 packed sequences, the others return zeros",
)  # fmt: skip
def attends_in_sixteen_sequences(*call: Any, **options: Any) -> Result:
    o, lse = attention(*call, **options)
    ends = options.get("cu_seqlens")
    if ends is not None and len(ends) > 17:
        o[:, int(ends[16]) :] = 0.0
    return o, lse


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 16 heads of 192 dims, keys from the 16th on have the values of the one before",
)  # fmt: skip
def takes_the_values_of_the_key_before_in_a_model(
    q: Tensor, k: Tensor, v: Tensor, **options: Any
) -> Result:
    if q.shape[2] >= 16 and q.shape[3] >= 192:
        v = v.clone()
        v[:, 16:] = v[:, 15:-1].clone()
    return attention(q, k, v, **options)
