"""Right partial rotations in several forms."""

from __future__ import annotations

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.rms_norm import ALL, ONCE
from lingspec.conformance.mutants._rope import Tensor, partial, rotated

OP = "partial_rope"


@honest(OP, profile=ONCE, differs="wide products, one rounding")
def rotates_heads_wide(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return partial(x, cos, sin)


@honest(OP, profile=ALL, differs="as released: table, products and sums in the dtype of x")
def rotates_in_the_dtype_of_x(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    R = 2 * cos.shape[-1]
    c, s = (torch.cat([t, t], -1).to(x.dtype)[:, :, None] for t in (cos, sin))
    a, b = x[..., :R].chunk(2, dim=-1)
    turned = x[..., :R] * c + torch.cat([-b, a], -1) * s
    return torch.cat([turned, x[..., R:]], -1)


@honest(OP, profile=ALL, differs="complex numbers, token by token, the table rounded")
def multiplies_complex_numbers(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    R = 2 * cos.shape[-1]
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    y = x.clone()
    c, s = (t.to(x.dtype).to(kind) for t in (cos, sin))
    for t in range(x.shape[1]):
        a, b = (p.contiguous() for p in x[:, t, :, :R].to(kind).chunk(2, dim=-1))
        turned = torch.complex(a, b) * torch.complex(c[:, t, None], s[:, t, None])
        y[:, t, :, :R] = torch.cat([turned.real, turned.imag], -1).to(x.dtype)
    return y


@honest(OP, profile=ONCE, differs="float64 inside; zeros and ones of a table as wide as the head")
def rotates_the_whole_head(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    if x.dtype == torch.float64:
        return partial(x, cos, sin)
    R = 2 * cos.shape[-1]
    turned = rotated(x[..., :R].double(), cos.double(), sin.double())
    return torch.cat([turned, x[..., R:].double()], -1).to(x.dtype)
