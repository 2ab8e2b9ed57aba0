"""Exact on integers and powers of two: no rounding happens, so no tolerance is needed.

q, k, v and states are small integers, the scale a power of two, every decay factor 1 or (in any
format) 0. The final state is then exact in float32; o is rounded once, where what it is read from
is exact in the narrowest permitted format.
"""

import math

import torch

from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "integers come out exactly"


def declared(contract: Contract) -> bool:
    """Ops that only multiply and add."""
    return contract.algebra.exact


def check(session: Session) -> None:
    """Every bit of every result that the profile leaves exact."""
    got = session.run()
    exact_states, exact_reads = exactness(session)
    for name, want in session.authority.items():
        reads = name == "o"
        if exact_reads if reads else exact_states:
            value = want.value.to(session.dtype_of(name))
            session.same_bits("exact", got[name], value, f"{name} is not exact on integers", name)
        else:
            session.expect("exact", got, {name: want})


def exactness(session: Session) -> tuple[bool, bool]:
    """Whether states, and what is read from them, are exact in the profile.

    An integer below 2^p is exact in a format of p bits. States are sums of |k||v| at most, scores
    of |q||k|.
    """
    points, arithmetic = session.profile.points, session.profile.arithmetic
    bits = {point: math.floor(-math.log2(form.u)) for point, form in points.items()}
    x = {n: t.double().abs() for n, t in session.call.tensors.items()}
    if x["q"].numel() == 0:
        return True, True
    tokens = x["k"].dim() == 4
    heads = "bthk,bthv->hkv" if tokens else "bhk,bhv->hkv"
    state = float(torch.einsum(heads, x["k"], x["v"]).max())
    for name in ("initial_state", "state_pool"):
        state += float(x[name].max()) if name in x and x[name].numel() else 0.0
    scores = float(
        (
            x["q"].amax(tuple(range(x["q"].dim() - 1)))
            * x["k"].amax(tuple(range(x["k"].dim() - 1)))
        ).sum()
    )
    whole = 2.0 ** math.floor(-math.log2(arithmetic.u))
    read = scores * float(x["v"].max()) * x["q"].shape[1] + state * float(x["q"].sum(-1).max())
    stored = min([2.0 ** bits[p] for p in ("state", "product") if p in bits], default=whole)
    narrow = min([2.0**b for p, b in bits.items() if p != "decay"], default=whole)
    return state < stored, max(state, scores) <= narrow and read < whole
