"""A small right Triton kernel for lightning attention, with switches for its mistakes."""

# Triton has no types for a kernel's arguments.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor]
PROFILES: Mapping[str, str] = MappingProxyType(
    {"float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}
)


@triton.jit
def tile_offsets(token, lane, stride_t, stride_d, FAULT: tl.constexpr):
    # Offsets of a (BT, lanes) tile in 64 bits.
    if FAULT == "int32 offsets":
        return (token[:, None] * stride_t + lane * stride_d).to(tl.int64)
    return token[:, None].to(tl.int64) * stride_t + lane.to(tl.int64) * stride_d


@triton.jit
def lightning_kernel(
    q, k, v, g, first_state, o, last_state, cu_seqlens, scale, T, H, N,
    q_b, q_t, q_h, q_d, k_b, k_t, k_h, k_d, v_b, v_t, v_h, v_d,
    K: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    HAS_STATE: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   S_t = exp(g) S_{t-1} + k_t v_t^T, o_t = scale S_t^T q_t, BT tokens at a time.
    # Program    one sequence, one head, BV value columns. Grid (N, H, cdiv(V, BV)).
    # On chip    the state, BK x BV float32.
    # Precision  operands in the inputs' dtype (scores, state and decayed k rounded to it),
    #            float32 accumulation and state, one rounding of o.
    # Masking    tokens behind the end, lanes k >= K and columns >= V load 0 and are not stored.
    # Integers   offsets into q, k, v, o and the states are int64.
    n = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1).to(tl.int64)
    block = tl.program_id(2)
    if FAULT == "stores past the end":
        n = N - 1 - n
    bos, eos, batch = n * 0, n * 0 + T, n
    if PACKED:
        bos = tl.load(cu_seqlens + n).to(tl.int64)
        eos = tl.load(cu_seqlens + n + 1).to(tl.int64)
        batch = n * 0
    lane = tl.arange(0, BK)[None, :]
    column = block * BV + tl.arange(0, BV)[None, :]
    inside_k = lane < K
    if FAULT == "lanes unmasked":
        inside_k = lane < K * (H - h)
    inside_v = column < V
    decay = tl.load(g + h)
    if FAULT == "decay by sequence":
        decay = tl.load(g + (h + n) % H)

    row = tl.arange(0, BK)[:, None]
    state_at = (n * H + h) * K * V + row * V + column
    inside_state = (row < K) & inside_v
    S = tl.zeros((BK, BV), tl.float32)
    if HAS_STATE:
        S += tl.load(first_state + state_at, mask=inside_state, other=0.0)

    i = tl.arange(0, BT)
    distance = i[:, None] - i[None, :]
    if FAULT == "exp before mask":
        weight = tl.exp(decay * distance) * (distance >= 0).to(tl.float32)
    else:
        weight = tl.where(distance >= 0, tl.exp(decay * tl.maximum(distance, 0)), 0.0)
    last = eos
    if FAULT == "no tail":
        last = bos + (eos - bos) // BT * BT
    for begin in range(bos, last, BT):
        C = tl.minimum(eos - begin, BT)
        token = begin + i
        if FAULT == "int32 offsets":
            token = token.to(tl.int32)
        inside = token[:, None] < eos
        loaded = inside
        if FAULT == "loads past the end":
            loaded = token[:, None] < T
        at_q = batch * q_b + h * q_h + tile_offsets(token, lane, q_t, q_d, FAULT)
        at_k = batch * k_b + h * k_h + tile_offsets(token, lane, k_t, k_d, FAULT)
        at_v = batch * v_b + h * v_h + tile_offsets(token, column, v_t, v_d, FAULT)
        q_c = tl.load(q + at_q, mask=loaded & inside_k, other=0.0)
        k_c = tl.load(k + at_k, mask=loaded & inside_k, other=0.0)
        v_c = tl.load(v + at_v, mask=loaded & inside_v, other=0.0)

        scores = tl.dot(q_c, tl.trans(k_c), input_precision=PRECISION) * weight
        within = tl.dot(scores.to(v_c.dtype), v_c, input_precision=PRECISION)
        to_end = tl.where(i < C, tl.exp(decay * tl.maximum(C - 1 - i, 0)), 0.0)
        if FAULT == "loads past the end":
            to_end = tl.exp(decay * tl.maximum(C - 1 - i, 0))
        k_decayed = (k_c.to(tl.float32) * to_end[:, None]).to(k_c.dtype)
        added = tl.dot(tl.trans(k_decayed), v_c, input_precision=PRECISION)
        S_read = S
        if FAULT == "reads the new state":
            S_read = S + added
        before = tl.dot(q_c, S_read.to(q_c.dtype), input_precision=PRECISION)
        out = scale * (within + before * tl.exp(decay * (i + 1))[:, None])
        S = S * tl.exp(decay * C) + added
        if FAULT == "narrow state":
            S = S.to(q_c.dtype).to(tl.float32)

        target = column
        if FAULT == "columns at zero":
            target = column - block * BV
        stored = inside
        if FAULT == "stores past the end":
            stored = token[:, None] < T
        at_o = (batch * T + token[:, None].to(tl.int64)) * H * V + h * V + target
        tl.store(o + at_o, out.to(o.dtype.element_ty), mask=stored & inside_v)
    if FAULT == "no state of short sequences":
        inside_state = inside_state & (row * 0 + (eos - bos) >= BT)
    tl.store(last_state + state_at, S, mask=inside_state)


def lightning(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, scale: float, initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
    chunk: int = 16, precision: str = "ieee", fault: str = "", **strides: Any,
) -> Result:  # fmt: skip
    """Launch the kernel; ``strides`` replaces those of an argument."""
    B, T, H, K = q.shape
    V = v.shape[-1]
    N = B if cu_seqlens is None else len(cu_seqlens) - 1
    o = torch.empty(B, T, H, V, dtype=q.dtype, device=q.device)
    final = torch.empty(N, H, K, V, dtype=torch.float32, device=q.device)
    BK, BV = max(16, triton.next_power_of_2(K)), 16
    grid = (N, H, triton.cdiv(V, BV))
    if not N * H * V:
        return o, final
    start = None if initial_state is None else initial_state.contiguous()
    layout = [
        strides.get(f"{name}_strides") or x.stride() for name, x in (("q", q), ("k", k), ("v", v))
    ]
    lightning_kernel[grid](
        q, k, v, log_decay.contiguous(), start, o, final, cu_seqlens, scale, T, H, N,
        *layout[0], *layout[1], *layout[2],
        K=K, V=V, BT=chunk, BK=BK, BV=BV, HAS_STATE=start is not None,
        PACKED=cu_seqlens is not None, PRECISION=precision, FAULT=fault,
    )  # fmt: skip
    return o, final
