"""A small right Triton kernel that decodes 8-bit floats, with switches for mistakes."""

# Triton has no types for a kernel's arguments.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor


@triton.jit
def dequantize_kernel(
    q, scale, x, M, N, q_m, q_n, s_m, s_n, HIGH, WIDE,
    BM: tl.constexpr, BN: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   x = q * scale, the bytes of q taken apart: sign, 4 bits of power, 3 of number.
    # Program    BM rows, BN columns. Grid (cdiv(M, BM), cdiv(N, BN)).
    # Masking    rows and columns behind the last are neither loaded nor stored.
    # Integers   offsets are int64.
    m = (tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM))[:, None]
    n = (tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN))[None, :]
    inside = (m < M) & (n < N)
    at = m * q_m + n * q_n
    if FAULT == "int32 offsets":
        at = (m.to(tl.int32) * q_m).to(tl.int32) + n * q_n
    byte = tl.load(q + at, mask=inside, other=0).to(tl.int32)
    power = (byte >> 3) & 15
    part = (byte & 7).to(tl.float32)
    whole = tl.where(power == 0, part, part + 8.0)
    if FAULT == "subnormals have a leading one":
        whole = part + 8.0
    shift = tl.maximum(power, 1) + 117  # 2^(power - 10), as the bits of a float32
    size = whole * (shift << 23).to(tl.float32, bitcast=True)
    size = tl.where((byte & 127) == 127, float("nan"), size)
    number = tl.where(byte >= 128, -size, size)
    column = n // WIDE
    if FAULT == "blocks of the first column":
        column = column * 0
    by = tl.load(scale + (m // HIGH) * s_m + column * s_n, mask=inside, other=0.0)
    tl.store(x + m * N + n, (number * by).to(x.dtype.element_ty), mask=inside)


def dequantize(
    q: Tensor, scale: Tensor, *, block: tuple[int, int] | None = None, dtype: torch.dtype,
    fault: str = "",
) -> Tensor:  # fmt: skip
    """Launch the kernel."""
    M, N = q.shape
    x = torch.empty(M, N, dtype=dtype, device=q.device)
    high, wide = block or (1, max(N, 1))
    if x.numel():
        dequantize_kernel[(triton.cdiv(M, 32), triton.cdiv(N, 64))](
            q.view(torch.uint8), scale, x, M, N, *q.stride(), *scale.stride(), high, wide,
            BM=32, BN=64, FAULT=fault,
        )  # fmt: skip
    return x
