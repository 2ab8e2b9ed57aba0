"""Right row-wise ops, and the lines of them that mutants replace.

B batch, T tokens, D channels, G groups, I hidden channels. What is not said otherwise is computed
in float32 (float64 where the inputs are) and rounded where the released model rounds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor
Line = Callable[[Tensor], Tensor]

NARROW = {"bfloat16": "bf16-tc"}
HALF = {"float16": "fp16-tc"}


def work_dtype(x: Tensor) -> torch.dtype:
    """float64 where ``x`` is, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def mean_square(x: Tensor) -> Tensor:
    """Of every row, (..., 1)."""
    return x.square().mean(-1, keepdim=True)


def unchanged(x: Tensor) -> Tensor:
    """What no line does."""
    return x


def parted(x: Tensor, parts: int) -> Tensor:
    """(..., D) as (..., parts, D / parts)."""
    return x.reshape(*x.shape[:-1], parts, x.shape[-1] // parts)


def unit(
    x: Tensor, eps: float, *, wide: torch.dtype | None = None, mean: Line = mean_square,
    inverse: Line = torch.rsqrt,
) -> Tensor:  # fmt: skip
    """Rows divided by their root-mean-square, wide; ``wide`` is the dtype to compute in."""
    rows = x.to(wide or work_dtype(x))
    return rows * inverse(mean(rows) + eps)


def norm(
    x: Tensor, weight: Tensor, *, eps: float, wide: torch.dtype | None = None,
    mean: Line = mean_square, inverse: Line = torch.rsqrt,
) -> Tensor:  # fmt: skip
    """rms_norm."""
    return unit(x, eps, wide=wide, mean=mean, inverse=inverse).to(x.dtype) * weight


def fused(
    x: Tensor, weight: Tensor, *, eps: float, store: Line = unchanged, inverse: Line = torch.rsqrt
) -> Tensor:
    """rms_norm with one rounding, which ``store`` may do."""
    y = unit(x, eps, inverse=inverse) * weight.to(work_dtype(x))
    return store(y).to(x.dtype)


def added(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float, store: Line = unchanged,
    wide: torch.dtype | None = None, mean: Line = mean_square, inverse: Line = torch.rsqrt,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """add_rms_norm; ``store`` may round the sum."""
    kind = work_dtype(x)
    total = store(x.to(kind) + residual.to(kind)).to(x.dtype)
    return norm(total, weight, eps=eps, wide=wide, mean=mean, inverse=inverse), total


def gated(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float,
    wide: torch.dtype | None = None, mean: Line = mean_square, inverse: Line = torch.rsqrt,
    opened: Line = torch.sigmoid,
) -> Tensor:  # fmt: skip
    """gated_group_rms_norm."""
    kind = wide or work_dtype(x)
    rows = unit(parted(x, groups), eps, wide=wide, mean=mean, inverse=inverse)
    weighed = rows.flatten(-2).to(x.dtype) * weight
    return weighed * opened(gate.to(kind)).to(x.dtype)


def silu(gate: Tensor) -> Tensor:
    """G sigmoid(g)."""
    return gate * torch.sigmoid(gate)


def activated(gate_up: Tensor, *, wide: torch.dtype | None = None, silu: Line = silu) -> Tensor:
    """Swiglu."""
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate.to(wide or work_dtype(gate))).to(gate.dtype) * up


def estimated_root(mean: Tensor) -> Tensor:
    """1 / sqrt to eight bits; which way it errs is as good as random."""
    root = torch.rsqrt(mean)
    up = (mean.view(torch.int32) >> 18) % 2 == 0
    return root * torch.where(up, 1 + 2.0**-8.4, 1 - 2.0**-8.4)


def directed(share: float) -> Line:
    """A rounding to bfloat16 that goes down where less than ``share`` of the last place is left.

    1/2 would be to nearest, 1 drops the bits.
    """
    added_bits = round((1 - share) * 0x10000)

    def store(x: Tensor) -> Tensor:
        bits = x.float().view(torch.int32) + added_bits
        return (bits & ~0xFFFF).view(torch.float32)

    return store
