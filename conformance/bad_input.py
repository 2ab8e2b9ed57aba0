"""Calls that break a contract, made from one that keeps it: one fault at a time.

What an implementation must refuse, by name: a shape, a dtype or a device that does not fit, and,
where values are looked at, an index that leads nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract, TensorSpec
from lingspec.conformance.laws.calls import size_of

__all__ = ["Fault", "faults"]


@dataclass(frozen=True)
class Fault:
    """A call with one argument that does not fit.

    ``blamed`` are the arguments that a refusal may name: of two that disagree, either.
    """

    argument: str
    kind: str  # shape, dtype, device, value
    sentence: str
    call: Call
    blamed: frozenset[str]

    def __str__(self) -> str:
        return f"{self.argument}: {self.sentence}"


def faults(contract: Contract, call: Call) -> Iterator[Fault]:
    """Every fault that the contract tells of, in the tensors of ``call``."""
    there = [s for s in contract.inputs if s.name in call.tensors]
    every = {s.name for s in there}
    for spec in there:
        x = call.tensors[spec.name]

        def broken(
            kind: str, sentence: str, other: Tensor, blamed: set[str], spec: TensorSpec = spec
        ) -> Fault:
            now = call.with_tensors(**{spec.name: other})
            return Fault(spec.name, kind, sentence, now, frozenset({spec.name, *blamed}))

        near = {s.name for s in there if set(s.axes) & set(spec.axes)}
        if not spec.free or sum(s.free for s in there) > 1:
            yield broken("shape", "an axis too many", x.unsqueeze(0), near)
        if x.dim() and spec.dtype != "position":
            yield broken("shape", "no axis at all", x.new_zeros(()), near)
        for axis, letter in enumerate(spec.axes):
            sharing = {s.name for s in there if letter in s.axes}
            if len(sharing) > 1 and axis < x.dim():
                sentence = f"one {letter} more than the others"
                yield broken("shape", sentence, _longer(x, axis), sharing)
        alike = {s.name for s in there if s.dtype == spec.dtype} if spec.dtype == "input" else set()
        for other in _dtypes(contract, spec, call):
            yield broken("dtype", f"dtype {other}", x.to(other), alike)
        if len(there) > 1:
            yield broken("device", "device meta", x.to("meta"), every)
        if spec.means:
            most = math.prod(size_of(contract, call, letter) for letter in spec.within)
            for sentence, values in _MEANINGS[spec.means](x, most):
                yield broken("value", sentence, values, set())


def _longer(x: Tensor, axis: int) -> Tensor:
    shape = list(x.shape)
    shape[axis] += 1
    return x.new_zeros(shape)


def _dtypes(contract: Contract, spec: TensorSpec, call: Call) -> Iterator[torch.dtype]:
    """Dtypes that are wrong, whatever the others are, or beside them."""
    if spec.dtype == "index":
        yield from (torch.float32, torch.int16, torch.bool)
        return
    if spec.dtype == "position":
        yield from (torch.bool, torch.complex64)
        return
    yield torch.int32
    if spec.dtype == "state":
        yield torch.bfloat16
    beside = [s for s in contract.inputs if s.dtype == spec.dtype and s.name in call.tensors]
    if spec.dtype == "input" and len(beside) > 1:
        x = call.tensors[spec.name]
        yield torch.float16 if x.dtype != torch.float16 else torch.bfloat16


def _ends(x: Tensor, most: int) -> Iterator[tuple[str, Tensor]]:
    """Ends of sequences: 0 first, the number of tokens last, never falling."""
    yield "ends that begin at 1", torch.cat([x[:1] + 1, x[1:]])
    yield "ends that stop early", torch.cat([x[:-1], x[-1:] * 0 + most - 1])
    yield "ends that go on too far", torch.cat([x[:-1], x[-1:] * 0 + most + 1])
    if x.numel() > 2:
        yield "ends that fall", _with(x, 1, most + 1)
        yield "an end below 0", _with(x, 1, -1)


def _slots(x: Tensor, most: int) -> Iterator[tuple[str, Tensor]]:
    """Places that are written: each once, -1 for none."""
    live = (x >= 0).nonzero().flatten()
    if live.numel() >= 1:
        yield "a slot behind the last", _with(x, int(live[0]), most)
        yield "a slot below -1", _with(x, int(live[0]), -2)
    if live.numel() >= 2:
        yield "a slot used twice", _with(x, int(live[0]), int(x[live[1]]))


def _ids(x: Tensor, most: int) -> Iterator[tuple[str, Tensor]]:
    """Ids of which -1 means none."""
    if x.numel():
        yield "an id behind the last", _with(x, 0, most)
        yield "an id below -1", _with(x, 0, -2)


def _lengths(x: Tensor, most: int) -> Iterator[tuple[str, Tensor]]:
    """Numbers of tokens."""
    if x.numel():
        yield "a negative length", _with(x, 0, -1)
        yield "a length beyond the table", _with(x, 0, most + 1)


def _pages(x: Tensor, most: int) -> Iterator[tuple[str, Tensor]]:
    """Pages that are followed: those of the first place of every row."""
    if x.numel():
        yield "a page behind the last", torch.full_like(x, most)
        yield "a negative page", torch.full_like(x, -1)


def _positions(x: Tensor, _: int) -> Iterator[tuple[str, Tensor]]:
    """Places in a text."""
    if x.numel():
        yield "a negative position", _with(x, 0, -1)


def _tokens(x: Tensor, _: int) -> Iterator[tuple[str, Tensor]]:
    """Members of a vocabulary."""
    if x.numel():
        yield "a token behind the vocabulary", _with(x, 0, 1 << 30)
        yield "a token below 0", _with(x, 0, -1)


def _with(x: Tensor, place: int, value: int) -> Tensor:
    other = x.clone()
    other.view(-1)[place] = value
    return other


_MEANINGS: dict[str, Callable[[Tensor, int], Iterator[tuple[str, Tensor]]]] = {
    "ends": _ends, "slots": _slots, "ids": _ids, "lengths": _lengths, "pages": _pages,
    "positions": _positions, "tokens": _tokens,
}  # fmt: skip
