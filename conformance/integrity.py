"""The line between wrong and rejected, and the search for results of other calls.

FAIL        the candidate computed something else than the op from this call's inputs, or wrote
            where it has no business to by running past the end of what it was given.
REJECTED    there is evidence that a result was not computed from this call's inputs alone, or
            that the candidate touched what is the judge's: an input that the op does not change, a
            result after it was returned, the reference, the judge's processes, the functions that
            carry results to the judge, the answers that are sent to it.

The evidence counts, whatever was meant by it. A process that crashes or hangs is reported as that,
unless there is such evidence too. What is REJECTED is never waived: no known difference in
arithmetic excuses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.runner.protocol import digest

if TYPE_CHECKING:
    from lingspec.conformance.session import Session

__all__ = ["SENTENCE", "belongs_to_an_earlier_call", "name_of_bits", "twin", "unwritten"]

SENTENCE = "results come from this call's inputs, and what is the judge's is left alone"

OTHER = 0.5  # the share of a tensor's elements that another call's must differ in


def belongs_to_an_earlier_call(
    session: Session, name: str, results: Mapping[str, Tensor], call: Call
) -> bool:
    """Whether a result that is wrong for ``call`` is right for a call that came before it.

    Only calls count whose data is other data throughout: an implementation that overlooks one
    argument, one token or one head is wrong, and no more. Nor does a result count that is mostly
    one number, or mostly that of both calls: many mistakes lead to the same.
    """
    here = session.judged(call)[name].value
    for candidate, asked in reversed(session.host.history):
        if candidate != session.candidate.index or not _unrelated(asked, call):
            continue
        want = session.judged(asked).get(name)
        if want is None or not want.finite() or not want.signal():
            continue
        if not _tells(want.value, here):
            continue
        if want.problem(results[name], session.dtype_of(name), (), results) is None:
            return True
    return False


def _tells(earlier: Tensor, here: Tensor) -> bool:
    """Whether results of two calls differ mostly, and those of the earlier one among themselves."""
    if earlier.shape != here.shape:
        return True
    numbers = _wide(earlier).flatten().double()
    most = float((numbers == numbers.mode().values).double().mean())
    return _other(earlier, here) and most <= OTHER


def _unrelated(asked: Call, call: Call) -> bool:
    """Equal shapes, and no tensor of data (two axes or more) that is half the same."""
    if asked.op != call.op or asked.tensors.keys() != call.tensors.keys():
        return False
    data = [n for n, x in call.tensors.items() if x.is_floating_point() and x.dim() > 1]
    return bool(data) and all(_other(asked.tensors[n], call.tensors[n]) for n in data)


def _other(a: Tensor, b: Tensor) -> bool:
    same_kind = a.shape == b.shape and a.dtype == b.dtype and a.numel() > 0
    return same_kind and float((_wide(a) != _wide(b)).double().mean()) > OTHER


def twin(call: Call) -> Call | None:
    """Other data that looks the same from afar; None where the op takes no data.

    Equal shapes and strides, first and last elements, and the same numbers between them: sums,
    norms and a few probes do not tell the two apart. Numbers that are equal where nobody reads them
    may now stand where they are read, so that roundings repeat.
    """
    data = {n: x for n, x in call.tensors.items() if x.is_floating_point() and x.dim()}
    if not data:
        return None
    turned = call.with_tensors(**{n: _turned(x) for n, x in data.items()})
    return dataclasses.replace(turned, coherent=True)


def _turned(x: Tensor) -> Tensor:
    """``x`` with everything but its ends in reverse; as it is if it is expanded."""
    if (
        x.is_floating_point() and x.element_size() == 1
    ):  # 8-bit floats cannot be turned, their bytes can
        return _turned(x.view(torch.uint8)).view(x.dtype)
    flat = x.reshape(-1)
    if flat.numel() < 4 or 0 in x.stride():
        return x
    return torch.cat([flat[:1], flat[1:-1].flip(0), flat[-1:]]).reshape(x.shape)


def _wide(x: Tensor) -> Tensor:
    """``x``, 8-bit floats in a dtype that can be compared."""
    return x.float() if x.element_size() == 1 else x


def name_of_bits(results: Mapping[str, Tensor]) -> str:
    """Equal for results that are equal in every bit."""
    parts = [bytes(x.contiguous().reshape(-1).view(torch.uint8).numpy()) for x in results.values()]
    return digest(b"".join(parts))


def unwritten(got: Tensor, poison: float) -> bool:
    """Whether no element of a result is anything but what fills memory that nobody wrote."""
    fill = torch.tensor(poison, dtype=got.dtype) if got.is_floating_point() else None
    return fill is not None and got.numel() > 0 and bool((got == fill).all())
