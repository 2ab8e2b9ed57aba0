"""Named rounding points: where an implementation may round, said by the lines of the reference.

`at("scores", x)` is ``x``. Inside `with rounding(policy)` it is ``policy("scores", x)``: ``x`` cast
to a narrower format and back (an emulated implementation), or ``x`` with the rounding error that
an implementation may commit there written down beside it (the analysis behind every limit).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["POINTS", "RELEASED", "at", "casting_to", "rounding"]

Policy = Callable[[str, Tensor], Tensor]

# Every name that a line of the reference may use, and what it stands for.
POINTS = {
    "q": "a query of linear attention, with scale and decay or without; of MLA, an absorbed one",
    "k": "a key of linear attention, as an operand, with decay or without",
    "v": "a value of linear attention, likewise",
    "do": "the cotangent of o, likewise",
    "decay": "a decay factor exp(log_decay * n)",
    "scores": "scaled and decayed products of queries and keys, as an operand",
    "state": "the carried state, as it is given and after each update",
    "state_read": "the state, as an operand of the product that reads it",
    "product": "the result of a matrix product, before it is added to anything",
    "linear": "the result of a projection",
    "score": "a router's score, without and with its bias",
    "operand": "an operand of a matrix product, where it has no other name",
    "query": "a query of softmax attention times the scale, as an operand",
    "qk": "the product of queries and keys of softmax attention, before the scale",
    "scaled": "the same times the scale, before the softmax",
    "weights": "softmax weights, as an operand",
    "normed": "a normalised row, before its weight",
    "weighed": "a normalised row times its weight, before a gate or a rotation",
    "gate": "the sigmoid that opens a gate",
    "sigmoid": "a sigmoid; in a format of its own, each of the steps that it is made of",
    "residual": "the sum of a residual addition",
    "end": "an end of YaRN's ramp, in pairs",
    "frequency": "what a pair of rotary dims turns by from token to token, without YaRN",
    "rope": "cosine and sine",
    "rope_product": "a coordinate times cosine or sine",
    "rotated": "a rotated coordinate",
    "silu": "the activated half of a gated MLP",
    "hidden": "the two halves of a gated MLP, before the activation",
    "activated": "the product of the two halves of a gated MLP",
    "expert": "what one expert returns",
    "output": "the result of an op",
}
# Where the released code rounds to the dtype of the activations, and the lines of the reference
# run in that dtype do not.
RELEASED = frozenset({"qk", "scaled"})

_policy: ContextVar[Policy | None] = ContextVar("rounding policy", default=None)


def at(point: str, x: Tensor) -> Tensor:
    """``x``, or what the active policy makes of it at ``point`` (a name in `POINTS`)."""
    policy = _policy.get()
    return x if policy is None else policy(point, x)


def casting_to(dtype: torch.dtype, points: Collection[str]) -> Policy:
    """The policy that rounds to ``dtype`` at ``points`` and nowhere else."""

    def policy(point: str, x: Tensor) -> Tensor:
        return x.to(dtype).to(x.dtype) if point in points else x

    return policy


@contextmanager
def rounding(policy: Policy) -> Iterator[None]:
    """Inside, every `at` asks ``policy``."""
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)
