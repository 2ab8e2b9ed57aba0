"""Strided views are their contiguous copies, also where an offset passes 2^31."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Generator, Tensor

from lingspec.conformance import values
from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.session import Session

SENTENCE = "strided views are their contiguous copies"

# What a contract is silent on where it is not contiguous, of two axes or more.
DENSE = {"moe_experts": ("experts", "weights")}


def declared(contract: Contract) -> bool:
    """Every op with tensors."""
    return bool(contract.inputs)


def check(session: Session) -> None:
    """The case's own layout, a dense copy, slices of longer buffers, and one batch for all."""
    layout, g = session.case.traits["layout"], values.rng(session.case.seed, "strides")
    session.expect("strides", session.run(), session.authority, f"{layout} in memory")
    dense = {name: x.contiguous() for name, x in session.call.tensors.items()}
    near = replace(session.call, tensors=dense, far={})
    session.expect("authority", session.run(near), session.authority)
    sliced = _some(session.contract, near, g, _sliceable, lambda x: _slice(x, g))
    if sliced is not None:
        session.expect("strides", session.run(sliced), session.authority,
                       f"{_changed(sliced, near)} cut out of a longer buffer")  # fmt: skip
    shared = _some(session.contract, near, g, _shareable, _shared)
    if shared is None:
        return
    shared = replace(shared, coherent=True)
    want = session.judged(shared)
    if all(x.finite() for x in want.values()):
        session.expect("strides", session.run(shared), want,
                       f"{_changed(shared, near)} with a stride of 0 along the batch")  # fmt: skip


def _some(
    contract: Contract, call: Call, g: Generator, may: Callable[[Contract, str, Tensor], bool],
    change: Callable[[Tensor], Tensor],
) -> Call | None:  # fmt: skip
    """One of the tensors that may be changed, or all of them; None where none may."""
    names = [n for n in _strided(contract, call) if may(contract, n, call.tensors[n])]
    if not names:
        return None
    alone = names[_below(len(names), g)]
    some = names if _below(2, g) else [alone]
    return replace(call, tensors={**call.tensors, **{n: change(call.tensors[n]) for n in some}})


def _strided(contract: Contract, call: Call) -> Iterator[str]:
    """The tensors of a call that need not be contiguous."""
    kept = DENSE.get(contract.op, ())
    for name, x in call.tensors.items():
        weight = name.startswith("weights.")
        if x.is_floating_point() and x.dim() > 1 and x.numel() and name not in kept and not weight:
            yield name


def _sliceable(_: Contract, __: str, x: Tensor) -> bool:
    return bool(_between(x))


def _between(x: Tensor) -> list[int]:
    """Axes inside of others and around others: a longer one sets what is outside of it apart."""
    return [a for a in range(1, x.dim() - 1) if x.shape[:a].numel() > 1]


def _slice(x: Tensor, g: Generator) -> Tensor:
    """The same elements, the first or the last along an axis that has more of them."""
    axes = _between(x)
    axis, more = axes[_below(len(axes), g)], 1 + _below(3, g)
    sizes = list(x.shape)
    sizes[axis] += more
    room = x.new_zeros(sizes)
    made = room.narrow(axis, more * _below(2, g), x.shape[axis])
    made.copy_(x)
    return made


def _below(most: int, g: Generator) -> int:
    return int(torch.randint(0, most, (1,), generator=g))


def _shareable(contract: Contract, name: str, x: Tensor) -> bool:
    """Data of a batch that no call writes to."""
    spec = next(s for s in contract.inputs if s.name == name)
    return spec.axes[0] in "BN" and len(x) > 1 and name not in contract.mutable


def _shared(x: Tensor) -> Tensor:
    return x[:1].contiguous().expand_as(x)


def _changed(call: Call, before: Call) -> str:
    """Names of the tensors that are others."""
    return ", ".join(n for n, x in call.tensors.items() if x is not before.tensors[n])
