"""Small right Triton kernels for MLA, with switches for their mistakes."""

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
def attention_kernel(
    q, k, v, o, lse, ends, ends_k, scale, T, S, H,
    q_b, q_t, q_h, q_d, k_b, k_s, k_h, k_d, v_b, v_s, v_h, v_d,
    K: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr, PACKED: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   causal softmax attention, the last query aligned with the last key.
    # Program    BT queries of one head of one sequence. Grid (cdiv(T, BT), H, N). Keys behind
    #            the last that its queries see are not loaded.
    # On chip    BT x BV accumulators in float32.
    # Precision  operands and weights in the inputs' dtype, float32 otherwise, one rounding of o.
    # Masking    tokens behind the end and lanes behind K and V load 0 and are not stored.
    # Integers   all offsets are int64.
    n = tl.program_id(2).to(tl.int64)
    h = tl.program_id(1).to(tl.int64)
    bos, eos, bos_k, eos_k, batch = n * 0, n * 0 + T, n * 0, n * 0 + S, n
    if PACKED:
        bos, eos = tl.load(ends + n).to(tl.int64), tl.load(ends + n + 1).to(tl.int64)
        bos_k, eos_k = tl.load(ends_k + n).to(tl.int64), tl.load(ends_k + n + 1).to(tl.int64)
        batch = n * 0
    t = bos + tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    lane = tl.arange(0, BK)
    column = tl.arange(0, BV)
    at_q = batch * q_b + h * q_h + t[:, None] * q_t + lane[None, :] * q_d
    tile = tl.load(q + at_q, mask=(t[:, None] < eos) & (lane[None, :] < K), other=0.0)
    behind = (eos_k - bos_k) - (eos - bos)
    if FAULT == "top left":
        behind = n * 0
    m = tl.full((BT,), -float("inf"), tl.float32)
    if FAULT == "finite maximum":
        m = tl.full((BT,), -5e4, tl.float32)
    total = tl.zeros((BT,), tl.float32)
    acc = tl.zeros((BT, BV), tl.float32)
    past = tl.minimum(bos_k + (tl.program_id(0) + 1) * BT + behind, eos_k)
    if FAULT == "tail unmasked":
        past = eos_k
    for block in range(tl.cdiv(tl.maximum(past - bos_k, 0), BS)):
        s_at = bos_k + block * BS + tl.arange(0, BS)
        loaded = s_at < eos_k
        if FAULT == "next sequence":
            loaded = s_at < S
        at_k = batch * k_b + h * k_h + s_at[None, :] * k_s + lane[:, None] * k_d
        at_v = batch * v_b + h * v_h + s_at[:, None] * v_s + column[None, :] * v_d
        if FAULT == "strides of keys":
            at_v = batch * v_b + h * k_h + s_at[:, None] * k_s + column[None, :] * v_d
        keys = tl.load(k + at_k, mask=loaded[None, :] & (lane[:, None] < K), other=0.0)
        rows = tl.load(v + at_v, mask=loaded[:, None] & (column[None, :] < V), other=0.0)
        scores = tl.dot(tile, keys, input_precision="ieee") * scale
        seen = (s_at[None, :] - bos_k <= t[:, None] - bos + behind) & loaded[None, :]
        if FAULT == "tail unmasked":
            seen = s_at[None, :] - bos_k <= t[:, None] - bos + behind + (T - eos)
        scores = tl.where(seen, scores, -float("inf"))
        new = tl.maximum(m, tl.max(scores, 1))
        shift = tl.where(new == -float("inf"), 0.0, new)
        keep = tl.exp(m - shift)
        if FAULT == "not rescaled":
            keep = tl.where(m == -float("inf"), 0.0, 1.0)
        p = tl.exp(scores - shift[:, None])
        total = total * tl.exp(m - shift) + tl.sum(p, 1)
        acc = acc * keep[:, None] + tl.dot(p.to(rows.dtype), rows, input_precision="ieee")
        m = new
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    row = (batch * T + t) * H + h
    stored = t < eos
    if FAULT == "stores past the end":
        stored = t < T
    tl.store(o + row[:, None] * V + column[None, :], out.to(o.dtype.element_ty),
             mask=stored[:, None] & (column[None, :] < V))  # fmt: skip
    logs = tl.where(total == 0.0, -float("inf"), m + tl.log(total))
    tl.store(lse + row, logs, mask=stored)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, cu_seqlens: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None, fault: str = "", queries: int = 16, keys: int = 16,
    **strides: Any,
) -> Result:  # fmt: skip
    """Launch the kernel of mla_attention; ``strides`` replaces those of an argument."""
    B, T, H, K = q.shape
    S, V = v.shape[1], v.shape[3]
    N = B if cu_seqlens is None else len(cu_seqlens) - 1
    o = torch.empty(B, T, H, V, dtype=q.dtype, device=q.device)
    lse = torch.empty(B, T, H, dtype=torch.float32, device=q.device)
    if not N * H * T:
        return o, lse
    ends_k = cu_seqlens if cu_seqlens_k is None else cu_seqlens_k
    layout = [
        strides.get(f"{name}_strides") or x.stride() for name, x in (("q", q), ("k", k), ("v", v))
    ]
    attention_kernel[triton.cdiv(T, queries), H, N](
        q, k, v, o, lse, cu_seqlens, ends_k, scale, T, S, H, *layout[0], *layout[1], *layout[2],
        K=K, V=V, BT=queries, BS=keys, BK=max(16, triton.next_power_of_2(K)),
        BV=max(16, triton.next_power_of_2(V)), PACKED=cu_seqlens is not None, FAULT=fault,
    )  # fmt: skip
    return o, lse


@triton.jit
def decode_kernel(
    q, q_rope, cache, pages, lengths, o, lse, scale, H, G, M,
    q_b, q_h, q_d, r_b, r_h, r_d, c_p, c_g, c_d, p_b,
    L: tl.constexpr, R: tl.constexpr, BL: tl.constexpr, BR: tl.constexpr, BH: tl.constexpr,
    BN: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   one query over the rows of a sequence, its latents as keys and values.
    # Program    BH heads of one sequence. Grid (B, cdiv(H, BH)).
    # Precision  operands and weights in the inputs' dtype, float32 otherwise, one rounding of o.
    # Masking    rows behind the length are not loaded, nor are pages behind the last; heads behind
    #            the last load 0 and are not stored.
    # Integers   offsets into the cache are int64.
    b = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1).to(tl.int64) * BH + tl.arange(0, BH)
    length = tl.load(lengths + b).to(tl.int64)
    lane, turn = tl.arange(0, BL), tl.arange(0, BR)
    head = (h < H)[:, None]
    at_q = b * q_b + h[:, None] * q_h + lane[None, :] * q_d
    query = tl.load(q + at_q, mask=head & (lane[None, :] < L), other=0.0)
    at_r = b * r_b + h[:, None] * r_h + turn[None, :] * r_d
    rope = tl.load(q_rope + at_r, mask=head & (turn[None, :] < R), other=0.0)
    m = tl.full((BH,), -float("inf"), tl.float32)
    total = tl.zeros((BH,), tl.float32)
    acc = tl.zeros((BH, BL), tl.float32)
    last = length
    if FAULT == "whole blocks":
        last = tl.where(length > BN, length // BN * BN, length)
    for block in range(tl.cdiv(last, BN)):
        j = block * BN + tl.arange(0, BN)
        inside = j < length
        loaded = inside
        if FAULT == "whole pages":
            loaded = j < (length + G - 1) // G * G
        entry = j // G
        if FAULT == "first page":
            entry = entry * 0
        page = tl.load(pages + b * p_b + entry, mask=loaded, other=0).to(tl.int64)
        if FAULT == "table by entries":
            page = tl.load(pages + b * M + entry, mask=loaded, other=0).to(tl.int64)
            page = tl.maximum(page, 0)
        row = page * c_p + (j % G) * c_g
        if FAULT == "int32 offsets":
            row = (
                page.to(tl.int32) * c_p.to(tl.int32) + (j % G).to(tl.int32) * c_g.to(tl.int32)
            ).to(tl.int64)
            row = tl.maximum(row, 0)
        latent = tl.load(cache + row[:, None] + lane[None, :] * c_d,
                         mask=loaded[:, None] & (lane[None, :] < L), other=0.0)  # fmt: skip
        rotated = tl.load(cache + row[:, None] + (L + turn[None, :]) * c_d,
                          mask=loaded[:, None] & (turn[None, :] < R), other=0.0)  # fmt: skip
        s = tl.dot(query, tl.trans(latent), input_precision="ieee")
        s += tl.dot(rope, tl.trans(rotated), input_precision="ieee")
        s = tl.where(inside[None, :], s * scale, -float("inf"))
        if FAULT == "zeros as scores":
            s = tl.where(inside[None, :], s, 0.0)
        new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp(s - new[:, None])
        keep = tl.exp(m - new)
        total = total * keep + tl.sum(p, 1)
        added = tl.dot(p.to(latent.dtype), latent, input_precision="ieee")
        acc = acc * keep[:, None] + added
        m = new
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    at_o = (b * H + h)[:, None] * L + lane[None, :]
    tl.store(o + at_o, out.to(o.dtype.element_ty), mask=head & (lane[None, :] < L))
    logs = tl.where(total == 0.0, -float("inf"), m + tl.log(total))
    tl.store(lse + b * H + h, logs, mask=h < H)


def decode(
    q_latent: Tensor, q_rope: Tensor, cache: Tensor, pages: Tensor, lengths: Tensor, *,
    scale: float, fault: str = "", block: int = 16,
) -> Result:  # fmt: skip
    """Launch the kernel of mla_decode."""
    B, H, L = q_latent.shape
    R = q_rope.shape[2]
    o = torch.empty(B, H, L, dtype=q_latent.dtype, device=q_latent.device)
    lse = torch.empty(B, H, dtype=torch.float32, device=q_latent.device)
    if B * H:
        decode_kernel[B, triton.cdiv(H, 16)](
            q_latent, q_rope, cache, pages, lengths, o, lse, scale, H, cache.shape[1],
            pages.shape[1], *q_latent.stride(), *q_rope.stride(), *cache.stride(), pages.stride(0),
            L=L, R=R, BL=max(16, triton.next_power_of_2(L)),
            BR=max(16, triton.next_power_of_2(R)), BH=16, BN=block, FAULT=fault,
        )  # fmt: skip
    return o, lse


@triton.jit
def merge_kernel(
    o1, lse1, o2, lse2, o, lse, N,
    ROWS: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   two attentions made one. Program: ROWS rows. Grid (cdiv(N, ROWS),).
    # Precision  float32, one rounding of o. Integers: row offsets are int64.
    # Masking    rows >= N and columns >= V load 0 and are not stored.
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BV)[None, :]
    a = tl.load(lse1 + row, mask=row < N, other=0.0)
    b = tl.load(lse2 + row, mask=row < N, other=0.0)
    m = tl.maximum(a, b)
    shift = tl.where(m == -float("inf"), 0.0, m)
    if FAULT == "base two":
        first, second = tl.exp2(a - shift), tl.exp2(b - shift)
    else:
        first, second = tl.exp(a - shift), tl.exp(b - shift)
    total = first + second
    whole = tl.where(total == 0.0, 1.0, total)
    inside = (row < N) & (column < V)
    x = tl.load(o1 + row * V + column, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(o2 + row * V + column, mask=inside, other=0.0).to(tl.float32)
    out = (first / whole) * x + (second / whole) * y
    if FAULT == "64 columns":
        inside = inside & (column < 64)
    tl.store(o + row * V + column, out.to(o.dtype.element_ty), mask=inside)
    tl.store(lse + row, shift + tl.log(total), mask=row < N)


def merge(o1: Tensor, lse1: Tensor, o2: Tensor, lse2: Tensor, *, fault: str = "") -> Result:
    """Launch the kernel of merge_attention, on contiguous copies."""
    V = o1.shape[-1]
    o = torch.empty(o1.shape, dtype=o1.dtype, device=o1.device)
    lse = torch.empty(lse1.shape, dtype=torch.float32, device=o1.device)
    given = [x.contiguous() for x in (o1, lse1, o2, lse2)]
    N = lse.numel()
    if N:
        merge_kernel[(triton.cdiv(N, 32),)](
            *given, o, lse, N, ROWS=32, V=V, BV=triton.next_power_of_2(V), FAULT=fault
        )
    return o, lse


@triton.jit
def write_kernel(
    latent, rope, cache, slots, G, l_t, l_d, r_t, r_d, c_p, c_g, c_d,
    L: tl.constexpr, W: tl.constexpr, BW: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   one row of the cache. Program: one token. Grid (T,). Bits are moved as integers.
    t = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + t).to(tl.int64)
    if FAULT == "padding wraps":
        slot = tl.maximum(slot, 0)
    if slot >= 0:
        lane = tl.arange(0, BW)
        of_latent = tl.load(latent + t * l_t + lane * l_d, mask=lane < L, other=0)
        of_rope = tl.load(rope + t * r_t + (lane - L) * r_d, mask=(lane >= L) & (lane < W), other=0)
        row = slot // G * c_p + slot % G * c_g
        if FAULT == "pages contiguous":
            row = slot * c_g
        stored = lane < W
        if FAULT == "lanes unmasked":
            stored = (lane < W) | (slot % G + 1 < G)
        tl.store(cache + row + lane * c_d, tl.where(lane < L, of_latent, of_rope), mask=stored)


def write(latent: Tensor, rope: Tensor, cache: Tensor, slots: Tensor, *, fault: str = "") -> None:
    """Launch the kernel of latent_cache_write."""
    bits = torch.int16 if cache.element_size() == 2 else torch.int32
    T, L = latent.shape
    W = L + rope.shape[1]
    if T:
        write_kernel[(T,)](
            latent.view(bits), rope.view(bits), cache.view(bits), slots, cache.shape[1],
            *latent.stride(), *rope.stride(), *cache.stride(),
            L=L, W=W, BW=triton.next_power_of_2(W), FAULT=fault,
        )  # fmt: skip
