"""A right hand-written backward pass of chunked lightning attention, term by term.

B batch, T tokens, H heads, K key dim, V value dim, C tokens of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lingspec.conformance.mutants._lightning import (
    CHUNK,
    Result,
    Steps,
    Tensor,
    by_chunk,
    by_sequence,
    keep,
    one_chunk,
    pair,
    read,
    unchanged,
    write,
)


@dataclass(frozen=True)
class Chunk:
    """What the gradients of one chunk are made of."""

    q: Tensor  # (B, H, C, K)
    k: Tensor  # (B, H, C, K)
    v: Tensor  # (B, H, C, V)
    do: Tensor  # (B, H, C, V)
    S: Tensor  # (B, H, K, V), the state before the chunk
    d_state: Tensor  # (B, H, K, V), the gradient of the state after the chunk
    g: Tensor  # (H,)
    scale: float

    @property
    def pair(self) -> Tensor:
        """Weight of key j for query i."""
        return self.scale * pair(self.g, self.q.shape[2])

    @property
    def read(self) -> Tensor:
        """Weight of S for query i."""
        return self.scale * read(self.g, self.q.shape[2])[:, :, None]

    @property
    def write(self) -> Tensor:
        """Weight of token j in the state after the chunk."""
        return write(self.g, self.q.shape[2])[:, :, None]

    @property
    def keep(self) -> Tensor:
        """Weight of S in the state after the chunk."""
        return keep(self.g, self.q.shape[2])[:, None, None]


def q_within(c: Chunk) -> Tensor:
    """Gradient of q through the pairs of the chunk."""
    return (c.do @ c.v.mT * c.pair) @ c.k


def q_before(c: Chunk) -> Tensor:
    """Gradient of q through the state before the chunk."""
    return c.read * (c.do @ c.S.mT)


def k_within(c: Chunk) -> Tensor:
    """Gradient of k through the pairs of the chunk."""
    return (c.do @ c.v.mT * c.pair).mT @ c.q


def k_after(c: Chunk) -> Tensor:
    """Gradient of k through the state after the chunk."""
    return c.write * (c.v @ c.d_state.mT)


def v_within(c: Chunk) -> Tensor:
    """Gradient of v through the pairs of the chunk."""
    return (c.q @ c.k.mT * c.pair).mT @ c.do


def v_after(c: Chunk) -> Tensor:
    """Gradient of v through the state after the chunk."""
    return c.write * (c.k @ c.d_state)


def S_within(c: Chunk) -> Tensor:
    """Gradient of the state before the chunk through the outputs of the chunk."""
    return (c.read * c.q).mT @ c.do


def S_after(c: Chunk) -> Tensor:
    """Gradient of the state before the chunk through the state after it."""
    return c.keep * c.d_state


Term = Callable[[Chunk], Tensor]


@dataclass(frozen=True)
class Terms:
    """The lines of the backward pass that can be replaced."""

    d_q: Term = lambda c: q_within(c) + q_before(c)
    d_k: Term = lambda c: k_within(c) + k_after(c)
    d_v: Term = lambda c: v_within(c) + v_after(c)
    d_start: Term = lambda c: S_within(c) + S_after(c)
    arriving_do: Callable[[Tensor], Tensor] = unchanged
    arriving_d_state: Callable[[Tensor], Tensor] = unchanged


def chunks_of(x: Tensor, like: Tensor, chunk: int) -> list[Tensor]:
    """(B, T, H, .) as a list of (B, H, C, .) in the dtype of ``like``."""
    wide = x.to(like.dtype).transpose(1, 2)
    return list(torch.split(wide, chunk, dim=2)) if wide.shape[2] else []


class TwoPass(torch.autograd.Function):
    """The chunked form with a backward pass that recomputes the states."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Result:
        """Inputs are q, k, v, S, log_decay, scale, chunk, terms."""
        q, k, v, S, log_decay, scale, chunk, terms = inputs
        ctx.save_for_backward(q, k, v, S, log_decay)
        ctx.fixed = scale, chunk, terms
        fixed = {"log_decay": log_decay, "scale": scale, "chunk": chunk}
        o, final = by_chunk(q, k, v, S.clone(), **fixed, line=Steps())
        return o, final

    @staticmethod
    def backward(ctx: Any, *arriving: Any) -> Any:
        """Arriving are the gradients of o and of the final state."""
        q, k, v, S, log_decay = ctx.saved_tensors
        scale, chunk, terms = ctx.fixed
        g, d_state = log_decay.to(S.dtype), terms.arriving_d_state(arriving[1])
        pieces = (chunks_of(x, S, chunk) for x in (q, k, v, terms.arriving_do(arriving[0])))
        chunks = []
        for q_c, k_c, v_c, do_c in zip(*pieces, strict=True):
            chunks.append((q_c, k_c, v_c, do_c, S))
            S = one_chunk(q_c, k_c, v_c, S, g, scale, Steps())[1]
        gradients: tuple[list[Tensor], ...] = ([], [], [])
        for q_c, k_c, v_c, do_c, before in reversed(chunks):
            c = Chunk(q_c, k_c, v_c, do_c, before, d_state, g, scale)
            for one, term in zip(gradients, (terms.d_q, terms.d_k, terms.d_v), strict=True):
                one.insert(0, term(c))
            d_state = terms.d_start(c)
        joined = (
            torch.cat(one, dim=2).transpose(1, 2).to(x.dtype) if one else torch.zeros_like(x)
            for one, x in zip(gradients, (q, k, v), strict=True)
        )
        return (*joined, d_state, None, None, None, None)


def two_pass(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, scale: float, initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
    chunk: int = CHUNK, **terms: Any,
) -> Result:  # fmt: skip
    """Lightning attention with the hand-written backward; ``terms`` replaces fields of `Terms`."""

    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        inputs = (q, k, v, S, log_decay, scale, chunk, Terms(**terms))
        result: Result = TwoPass.apply(*inputs)  # type: ignore[no-untyped-call]  # torch's own
        return result

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)
