"""A small right Triton kernel for the rotations, with switches for its mistakes."""

# Triton has no types for a kernel's arguments.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor


@triton.jit
def rope_kernel(
    x, cos, sin, y, x_b, x_t, x_h, x_d, c_b, c_t, c_d, s_b, s_t, s_d, N, T, H,
    ROWS: tl.constexpr, K: tl.constexpr, F: tl.constexpr, BF: tl.constexpr, BK: tl.constexpr,
    PAIRS: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   partial_rope, or with PAIRS interleaved_rope.
    # Program    ROWS heads, those of one token beside each other. Grid (cdiv(N, ROWS),).
    # Precision  float32, one rounding; dims that pass are copied.
    # Masking    rows >= N, lanes f >= F and k >= K are neither loaded nor stored.
    # Integers   offsets of tokens are int64.
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    token, h = row // H, row % H
    b, t = token // T, token % T
    if FAULT == "first sequence":
        b = b * 0
    f = tl.arange(0, BF)[None, :]
    inside = (row < N) & (f < F)
    c = tl.load(cos + b * c_b + t * c_t + f * c_d, mask=inside, other=1.0).to(tl.float32)
    s = tl.load(sin + b * s_b + t * s_t + f * s_d, mask=inside, other=0.0).to(tl.float32)
    b = token // T
    at = b * x_b + t * x_t + h * x_h
    if FAULT == "int32 offsets":
        at = at.to(tl.int32).to(tl.int64)
    first, second = f, f + F
    if PAIRS:
        first, second = 2 * f, 2 * f + 1
    if FAULT == "whole head":
        second = f + K // 2
    a = tl.load(x + at + first * x_d, mask=inside, other=0.0).to(tl.float32)
    e = tl.load(x + at + second * x_d, mask=inside, other=0.0).to(tl.float32)
    out = y + row * K
    k = tl.arange(0, BK)[None, :]
    behind = (row < N) & (k >= 2 * F) & (k < K)
    if FAULT == "rest dropped":
        behind = behind & (k < 2 * F)
    tl.store(out + k, tl.load(x + at + k * x_d, mask=behind, other=0.0), mask=behind)
    turned = a * c - e * s
    tl.store(out + f, turned.to(y.dtype.element_ty), mask=inside)
    if FAULT == "in place":
        a = turned
    tl.store(out + f + F, (e * c + a * s).to(y.dtype.element_ty), mask=inside)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, *, pairs: bool = False, fault: str = "") -> Tensor:
    """Launch the kernel."""
    B, T, H, K = x.shape
    F = cos.shape[-1]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        N = B * T * H
        rope_kernel[(triton.cdiv(N, 64),)](
            x, cos, sin, y, *x.stride(), *cos.stride(), *sin.stride(), N, T, H,
            ROWS=64, K=K, F=F, BF=triton.next_power_of_2(F), BK=triton.next_power_of_2(K),
            PAIRS=pairs, FAULT=fault,
        )  # fmt: skip
    return y
