"""Right interleaved rotations in several forms."""

from __future__ import annotations

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.rms_norm import ALL, ONCE
from lingspec.conformance.mutants._rope import Tensor, halves, interleaved
from lingspec.conformance.mutants._rows import parted

OP = "interleaved_rope"


@honest(OP, profile=ONCE, differs="wide products, one rounding")
def rotates_pairs_wide(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return interleaved(x, cos, sin)


@honest(OP, profile=ALL, differs="complex numbers of neighbours, de-interleaved afterwards")
def multiplies_neighbours_as_complex_numbers(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    pairs = torch.view_as_complex(parted(x.to(kind).contiguous(), x.shape[-1] // 2))
    turned = pairs * torch.complex(cos.to(kind), sin.to(kind))[:, :, None]
    return halves(torch.view_as_real(turned).flatten(-2)).to(x.dtype)


@honest(OP, profile=ALL, differs="as released: view, transpose, and halves in the dtype of x")
def transposes_and_rotates_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    halved = parted(x, x.shape[-1] // 2).transpose(-1, -2).flatten(-2)
    c, s = (torch.cat([t, t], -1).to(x.dtype)[:, :, None] for t in (cos, sin))
    a, b = halved.chunk(2, dim=-1)
    return halved * c + torch.cat([-b, a], -1) * s
