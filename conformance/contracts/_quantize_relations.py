"""What is known of fp8_quantize when its numbers are moved, scaled, negated, padded or cut."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Relation, Values
from lingspec.conformance.contracts._blocks import groups, largest_of, one_of, to_groups
from lingspec.reference import fp8_quantize
from lingspec.reference.ops.fp8_quantize import LARGEST

__all__ = ["LEAST", "RELATIONS"]

LEAST = LARGEST * 2.0**-125  # the largest magnitude of a row or block, if it is not 0


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.double(), b.double())


def _neighbours(call: Call, g: Generator) -> Call | None:
    """One row or block as it was, all others far smaller or, if they stay finite, larger."""
    x, block = call.tensors["x"], call.params["block"]
    parts = list(groups(x.shape, block))
    if len(parts) < 2:
        return None
    powers = (-6, 6) if x.dtype == torch.float16 else (-60, 60)
    other = x * (2.0 ** powers[one_of(2, g)])
    kept = parts[one_of(len(parts), g)]
    other[kept] = x[kept]
    largest = largest_of(other.double(), block)
    fits = (largest == 0) | (largest >= LEAST) & (largest <= torch.finfo(torch.float32).max)
    return call.with_tensors(x=other) if bool(fits.all()) else None


def _some_stay(before: Values, after: Values, _: Call) -> bool:
    return bool((before["scale"] == after["scale"]).any())


def _negated(call: Call, _: Generator) -> Call | None:
    return call.with_tensors(x=-call.tensors["x"])


def _negates(before: Values, after: Values, _: Call) -> bool:
    same = _equal(before["scale"], after["scale"])
    return same and _equal(-before["q"].double(), after["q"])


def _quadrupled(call: Call, _: Generator) -> Call | None:
    x = 4 * call.tensors["x"]
    fits = bool((x.abs() <= torch.finfo(torch.float32).max).all())
    return call.with_tensors(x=x) if fits and bool((x != 0).any()) else None


def _quadruples(before: Values, after: Values, _: Call) -> bool:
    ratio = after["scale"] / before["scale"]
    return bool(((ratio == 4) | (after["scale"] == 1)).all()) and _equal(before["q"], after["q"])


def _turned(call: Call, _: Generator) -> Call | None:
    return call.with_tensors(x=call.tensors["x"].mT.contiguous()) if call.params["block"] else None


def _turns(before: Values, after: Values, _: Call) -> bool:
    return _equal(before["q"].mT, after["q"]) and _equal(before["scale"].mT, after["scale"])


def _padded(call: Call, g: Generator) -> Call | None:
    """Rows and columns of zeros behind the last."""
    x = call.tensors["x"]
    more = (one_of(5, g), 1 + one_of(300, g))
    wider = x.new_zeros(x.shape[0] + more[0], x.shape[1] + more[1])
    wider[: x.shape[0], : x.shape[1]] = x
    return call.with_tensors(x=wider)


def _within(before: Values, after: Values, _: Call) -> bool:
    (M, N), (R, S) = before["q"].shape, before["scale"].shape
    same = _equal(before["q"], after["q"][:M, :N])
    return same and _equal(before["scale"], after["scale"][:R, :S])


def _cut(call: Call, _: Generator) -> Call | None:
    """The first rows alone, as many as fill blocks."""
    x = call.tensors["x"]
    rows = x.shape[0] - 1 if call.params["block"] is None else (x.shape[0] - 1) // 128 * 128
    return call.with_tensors(x=x[:rows]) if rows > 0 else None


def _is_cut(before: Values, after: Values, call: Call) -> bool:
    return _within(after, before, call)


def _again(call: Call, _: Generator) -> Call | None:
    """What the codes and scales stand for."""
    x, block = call.tensors["x"], call.params["block"]
    q, scale = fp8_quantize(x, block=block)
    made = q.double() * to_groups(scale.double(), x.shape, block)
    return (
        call.with_tensors(x=made.to(x.dtype)) if bool(made.to(x.dtype).isfinite().all()) else None
    )


def _same_codes(before: Values, after: Values, _: Call) -> bool:
    # Two roundings to float32, 2^-24 each: of the largest number, and of its quotient by 448.
    rtol = 2 * 2.0**-24 * (1 + 2.0**-23)
    close = torch.allclose(before["scale"], after["scale"], rtol=rtol, atol=0.0)
    return close and _equal(before["q"], after["q"])


RELATIONS = {
    "neighbours": Relation("a row or block beside others", "invariance", _neighbours, _some_stay),
    "negated": Relation("all numbers negated", "invariance", _negated, _negates),
    "quadrupled": Relation("all numbers four times as large", "invariance", _quadrupled,
                           _quadruples),
    "turned": Relation("blocks transposed", "identities", _turned, _turns),
    "padded": Relation("zeros behind the last row and column", "identities", _padded, _within),
    "cut": Relation("the first rows alone", "identities", _cut, _is_cut),
    "again": Relation("what the codes stand for", "identities", _again, _same_codes),
}  # fmt: skip
