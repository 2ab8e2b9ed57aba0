"""Named rounding points: where an implementation may round, said by the lines of the reference.

`at("scores", x)` is ``x``. Inside `with rounding(policy)` it is ``policy("scores", x)``: ``x`` cast
to a narrower format and back (an emulated implementation), or ``x`` with the rounding error that
an implementation may commit there written down beside it (the analysis behind every limit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

__all__ = ["POINTS", "at", "rounding"]

Policy = Callable[[str, Tensor], Tensor]

# Every name that a line of the reference may use, and what it stands for.
POINTS = {
    "q": "the query, as an operand of a product (scale and decay folded in or not)",
    "k": "the key, likewise",
    "v": "the value, likewise",
    "do": "the cotangent of o, likewise",
    "decay": "a decay factor exp(log_decay * n)",
    "scores": "scaled and decayed products of queries and keys, as an operand",
    "state": "the carried state, as it is given and after each update",
    "state_read": "the state, as an operand of the product that reads it",
    "product": "the result of a matrix product, before it is added to anything",
}

_policy: ContextVar[Policy | None] = ContextVar("rounding policy", default=None)


def at(point: str, x: Tensor) -> Tensor:
    """``x``, or what the active policy makes of it at ``point`` (a name in `POINTS`)."""
    policy = _policy.get()
    return x if policy is None else policy(point, x)


@contextmanager
def rounding(policy: Policy) -> Iterator[None]:
    """Inside, every `at` asks ``policy``."""
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)
