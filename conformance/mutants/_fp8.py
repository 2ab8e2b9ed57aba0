"""Small right conversions to and from 8-bit floats, with places where mistakes can be made."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor
Block = tuple[int, int] | None
Result = tuple[Tensor, Tensor]
LARGEST = 448.0


def grid(shape: tuple[int, ...], block: Block) -> tuple[int, int]:
    """Rows and columns of scales."""
    M, N = shape[0], shape[1]
    return (M, 1) if block is None else (-(-M // block[0]), -(-N // block[1]))


def largest_of(x: Tensor, block: Block) -> Tensor:
    """The largest magnitude of each row or block."""
    R, S = grid(x.shape, block)
    high, wide = block or (1, max(x.shape[1], 1))
    made = torch.zeros(R, S, dtype=x.dtype)
    for r in range(R):
        for s in range(S):
            part = x[r * high : (r + 1) * high, s * wide : (s + 1) * wide]
            if part.numel():
                made[r, s] = part.abs().max()
    return made


def spread(scale: Tensor, shape: tuple[int, ...], block: Block) -> Tensor:
    """The scale of every element."""
    if block is None:
        return scale.expand(shape[0], shape[1])
    rows = scale.repeat_interleave(block[0], dim=0)[: shape[0]]
    return rows.repeat_interleave(block[1], dim=1)[:, : shape[1]]


def nearest(quotient: Tensor) -> Tensor:
    """To nearest even, saturating."""
    return quotient.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def quantize(
    x: Tensor, *, block: Block = None,
    largest: Callable[[Tensor, Block], Tensor] = largest_of,
    scaled: Callable[[Tensor], Tensor] = lambda a: torch.where(a == 0, 1.0, a / LARGEST),
    divide: Callable[[Tensor, Tensor], Tensor] = torch.divide,
    code: Callable[[Tensor], Tensor] = nearest,
) -> Result:  # fmt: skip
    """Codes and scales."""
    x = x.float()
    scale = scaled(largest(x, block))
    return code(divide(x, spread(scale, x.shape, block))), scale


def dequantize(
    q: Tensor, scale: Tensor, *, block: Block = None, dtype: torch.dtype,
    decode: Callable[[Tensor, torch.dtype], Tensor] = lambda q, wide: q.to(wide),
) -> Tensor:  # fmt: skip
    """Numbers."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return (decode(q, wide) * spread(scale.to(wide), q.shape, block)).to(dtype)
