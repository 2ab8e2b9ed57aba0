"""Small right Triton kernels for norms and the gated activation, with switches for mistakes."""

# Triton has no types for a kernel's arguments.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor]
PROFILES: Mapping[str, str] = MappingProxyType(
    {"float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}
)
TILE = 8192  # elements of a tile of whole rows, padded channels counted
MOST_ROWS = 256  # of a tile


@triton.jit
def norm_kernel(
    x, r, w, y, total, x_b, x_t, x_d, r_b, r_t, r_d, N, T, D, eps,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, ADD: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   rms_norm, or with ADD add_rms_norm.
    # Program    ROWS rows of D channels. Grid (cdiv(N, ROWS),).
    # On chip    ROWS x BLOCK float32, BLOCK = next_power_of_2(D).
    # Precision  float32 throughout, one rounding of each result.
    # Masking    rows >= N and lanes d >= D load 0 and are not stored.
    # Integers   offsets of rows are int64.
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    d = tl.arange(0, BLOCK)[None, :]
    inside = (row < N) & (d < D)
    loaded = inside
    if FAULT == "lanes unmasked":
        loaded = (row < N) & ((row % T) * D + d < T * D)
    at_x = row // T * x_b + row % T * x_t + d * x_d
    if FAULT == "int32 offsets":
        at_x = (row // T * x_b + row % T * x_t).to(tl.int32).to(tl.int64) + d * x_d
    h = tl.load(x + at_x, mask=loaded, other=0.0).to(tl.float32)
    if ADD:
        at_r = row // T * r_b + row % T * r_t + d * r_d
        h += tl.load(r + at_r, mask=inside, other=0.0).to(tl.float32)
        if FAULT == "in place":
            tl.store(r + at_r, h.to(total.dtype.element_ty), mask=inside)
        tl.store(total + row * D + d, h.to(total.dtype.element_ty), mask=inside)
    length = D
    if FAULT == "padded length":
        length = BLOCK
    root = tl.rsqrt(tl.sum(h * h, axis=1) / length + eps)
    if FAULT == "largest first":
        root = tl.rsqrt(tl.max(h * h, axis=1) + eps)
    scaled = h * root[:, None] * tl.load(w + d, mask=d < D, other=0.0).to(tl.float32)
    stored = inside
    if FAULT == "no tail":
        stored = inside & (d < D // 16 * 16)
    tl.store(y + row * D + d, scaled.to(y.dtype.element_ty), mask=stored)


@triton.jit
def swiglu_kernel(
    x, y, x_b, x_t, x_d, N, T, channels,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   swiglu.
    # Program    BLOCK channels of ROWS rows. Grid (cdiv(N, ROWS), cdiv(I, BLOCK)).
    # Precision  float32, one rounding.
    # Masking    rows >= N and lanes i >= channels load 0 and are not stored.
    # Integers   offsets of rows are int64.
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = (row < N) & (i < channels)
    at = row // T * x_b + row % T * x_t
    half = channels
    if FAULT == "padded half":
        half = tl.cdiv(channels, BLOCK) * BLOCK
    g = tl.load(x + at + i * x_d, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(x + at + (half + i) * x_d, mask=inside & (half + i < 2 * channels), other=0.0)
    opened = g * tl.sigmoid(g)
    if FAULT == "exponentials":
        opened = g * tl.exp(g) / (1.0 + tl.exp(g))
    target = row * channels
    if FAULT == "first row":
        target = row * 0
    tl.store(y + target + i, (opened * u.to(tl.float32)).to(y.dtype.element_ty), mask=inside)


def three(x: Tensor) -> Tensor:
    """``x`` with three axes, without a copy where there is a view."""
    return x[(None,) * (3 - x.dim())] if x.dim() <= 3 else x.flatten(0, x.dim() - 3)


def norm(
    x: Tensor, weight: Tensor, *, eps: float, residual: Tensor | None = None, fault: str = ""
) -> Result:
    """Launch the norm; the second result is the sum, unused without a residual."""
    D = x.shape[-1]
    y, total = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in "yt")
    rows, other = three(x), three(x if residual is None else residual)
    if x.numel():
        strides = list(rows.stride())
        if fault == "unit stride":
            strides[2] = 1
        N, block = rows.shape[0] * rows.shape[1], triton.next_power_of_2(D)
        height = min(MOST_ROWS, max(1, TILE // block))
        norm_kernel[(triton.cdiv(N, height),)](
            rows, other, weight, y, total, *strides, *other.stride(), N, rows.shape[1], D, eps,
            ROWS=height, BLOCK=block, ADD=residual is not None, FAULT=fault,
        )  # fmt: skip
    return y, total


def activated(gate_up: Tensor, *, fault: str = "", height: int = 16, block: int = 128) -> Tensor:
    """Launch swiglu."""
    I = gate_up.shape[-1] // 2  # noqa: E741 - the letter of the specification
    y = torch.empty((*gate_up.shape[:-1], I), dtype=gate_up.dtype, device=gate_up.device)
    rows = three(gate_up)
    if y.numel():
        N = rows.shape[0] * rows.shape[1]
        swiglu_kernel[triton.cdiv(N, height), triton.cdiv(I, block)](
            rows, y, *rows.stride(), N, rows.shape[1], I, ROWS=height, BLOCK=block, FAULT=fault
        )
    return y
