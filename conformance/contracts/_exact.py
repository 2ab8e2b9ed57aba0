"""Which results of the Lightning ops are exact on integers.

q, k, v and states are small integers, the scale a power of two, every decay factor 1 or (in any
format) 0. The final state is then exact in float32; o is rounded once, where what it is read from
is exact in the narrowest permitted format.
"""

from __future__ import annotations

import math

from torch import Tensor

from lingspec.conformance.accuracy.profiles import Profile
from lingspec.conformance.case import Call

__all__ = ["exact_reads"]

STATES = ("initial_state", "state_pool")


def exact_reads(call: Call, profile: Profile) -> frozenset[str]:
    """The names of the exact results."""
    states, reads = exactness(call, profile)
    of_state = "state_pool" if "state_pool" in call.tensors else "final_state"
    return frozenset([of_state] * states + ["o"] * reads)


def exactness(call: Call, profile: Profile) -> tuple[bool, bool]:
    """Whether states, and what is read from them, are exact in the profile.

    An integer up to 2^p is exact in a format of p bits. A rounded score is a sum of |q||k| at most;
    a rounded state is a sum over some run of tokens, so the difference of two of its prefixes.
    """
    points, arithmetic = profile.points, profile.arithmetic
    bits = {point: math.floor(-math.log2(form.u)) for point, form in points.items()}
    x = {n: t.double() for n, t in call.tensors.items() if t.is_floating_point()}
    if x["q"].numel() == 0:
        return True, True
    q, k, v = (_rows(x[n]) for n in "qkv")
    carried = max((float(x[n].abs().max()) for n in STATES if n in x and x[n].numel()), default=0.0)
    scores = float((q.abs() @ k.abs().mT).max())
    state = 2 * _largest_prefix(k, v) + carried
    total = float((k.abs().mT @ v.abs()).max()) + carried
    read = total * float(q.abs().sum(-1).max())
    whole = 2.0 ** math.floor(-math.log2(arithmetic.u))
    stored = min([2.0 ** bits[p] for p in ("state", "product") if p in bits], default=whole)
    narrow = min([2.0**b for p, b in bits.items() if p != "decay"], default=whole)
    # what is read may itself be a product that is rounded, or be added up of such parts
    shown = 2.0 ** bits["product"] if "product" in bits else whole
    return total < stored, max(state, scores) <= narrow and read < whole and read <= shown


def _rows(x: Tensor) -> Tensor:
    """(B, T, H, D) as (B, H, T, D); one token where there is no axis of them."""
    return x.transpose(1, 2) if x.dim() == 4 else x.unsqueeze(2)


def _largest_prefix(k: Tensor, v: Tensor) -> float:
    """The largest |sum over the first tokens of k v^T|, head by head to save memory."""
    heads = zip(k.flatten(0, 1), v.flatten(0, 1), strict=True)
    prefixes = ((a[:, :, None] * b[:, None, :]).cumsum(0) for a, b in heads)
    return max(float(p.abs().max()) for p in prefixes)
