"""Small right experts, with places where mistakes can be made."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor
Activation = Callable[[Tensor, Tensor], Tensor]


def wide(x: Tensor) -> Tensor:
    """``x`` in the dtype that sums are in."""
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU of the gate, times up."""
    return gate * gate.sigmoid() * up


def dense(
    x: Tensor, gate_up: Tensor, down: Tensor, act: Activation = swiglu,
    stored: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """One expert on rows; what is in between is rounded to the dtype of ``x``, or as ``stored``."""
    kept = stored or (lambda t: t.to(x.dtype))
    gate, up = kept(wide(x) @ wide(gate_up).mT).chunk(2, dim=1)
    hidden = kept(act(wide(gate), wide(up)))
    return kept(wide(hidden) @ wide(down).mT)


def rows_of(experts: Tensor, e: int) -> tuple[Tensor, Tensor]:
    """The tokens, and the places among their choices, that go to expert ``e``."""
    token, place = (experts == e).nonzero(as_tuple=True)
    return token, place


def experts_of(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor,
    *, one: Callable[..., Tensor] = dense,
    combine: Callable[[Tensor, Tensor], Tensor] | None = None,
    rows: Callable[[Tensor, int], tuple[Tensor, Tensor]] = rows_of,
) -> Tensor:  # fmt: skip
    """Every expert on its rows, then the weighted sum."""
    results = torch.zeros(*experts.shape, x.shape[1], dtype=x.dtype)
    for e in range(len(down)):
        token, place = rows(experts, e)
        if len(token):
            results[token, place] = one(x[token], gate_up[e], down[e]).to(x.dtype)
    return combined(results, weights) if combine is None else combine(results, weights)


def combined(results: Tensor, weights: Tensor) -> Tensor:
    """The sum over a token's choices, rounded once."""
    return (wide(results) * weights[..., None]).sum(dim=1).to(results.dtype)
