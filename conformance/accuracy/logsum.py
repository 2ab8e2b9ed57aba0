"""log(sum exp(x)) of running numbers: how far what moves the arguments may move it.

With p the softmax of the arguments, and d what they err by, the result moves by log(sum p exp(d)).
It is convex in d: it falls no further than the opposite errors make it rise, and is never more than
the largest of them. Everything is computed as logarithms: arguments that err by a thousand are no
overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.conformance.accuracy import functions
from lingspec.conformance.accuracy.errors import LAMBDA, Errors
from lingspec.conformance.accuracy.running import UNKNOWN, Running, running

__all__ = ["logsumexp"]


def logsumexp(x: Running, dim: int, *, keepdim: bool = False) -> Running:
    """C + log(sum exp(x - c)), with c the result itself: no order of summation is worse.

    A sum that is made in pieces is scaled anew whenever the largest term so far rises.
    """
    c = x.value.logsumexp(dim, keepdim=True)
    none = c == -torch.inf
    shift = c.masked_fill(none, 0.0)
    made = _own(running(x.value - shift, x.profile), dim, none) + shift
    if x.shape[dim]:
        made.errors = made.errors.plus(_moved(functions.rescaled(x - shift), dim))
    made = made.masked_fill(none, -torch.inf)
    return made if keepdim else made.squeeze(dim)


def _own(x: Running, dim: int, none: Tensor) -> Running:
    """What exp, the sum and log round, of arguments that are what they are."""
    total = functions.exp_of(x).sum(dim, keepdim=True)
    again = x.profile.function_error * _rises(x.value, dim) * total.value
    total._add(functions.FUNCTION, again, again.square(), again)
    return functions.log(total.masked_fill(none, 1.0))


def _moved(x: Running, dim: int) -> Errors:
    """What errors of the arguments x, of which sum exp(x) = 1, become, point by point."""
    hidden = x.value == -torch.inf
    errors = x.errors.map(lambda y: y.expand(x.shape).masked_fill(hidden, 0.0))
    reach, drift, spread = errors.reach, errors.trend, errors.variance
    most = _slopes(x.value, reach, dim, (reach, torch.zeros_like(reach)))
    likely = torch.minimum(errors.deviation, reach)
    mostly = _slopes(x.value, likely, dim, (drift, spread))
    return errors.scaled(
        lambda y: functions.times(y, most).sum(dim, keepdim=True),
        lambda y: functions.times(y, mostly.square()).sum(dim, keepdim=True),
        lambda y: (y * mostly).sum(dim, keepdim=True),
    )


def _slopes(x: Tensor, by: Tensor, dim: int, together: tuple[Tensor, Tensor]) -> Tensor:
    """What log(sum exp) moves by for each unit of an argument, where it may move by ``by``.

    A term grows by p (exp(by) - 1) / by a unit; of the sum, what errs ``together`` (a sum of signed
    errors, a sum of squares) goes through the logarithm at once.
    """
    by = by.clamp(max=UNKNOWN)
    steep = torch.where(by > 0, by + (-torch.expm1(-by)).log() - by.log(), 0.0)
    terms = x + steep  # the logarithm of what a term grows by a unit
    top = terms.amax(dim, keepdim=True).clamp(min=0.0)
    terms = (terms - top).exp()
    signed, squares = together
    moved = (terms * signed).sum(dim, keepdim=True).abs()
    moved = moved + LAMBDA * (terms.square() * squares).sum(dim, keepdim=True).sqrt()
    moved = torch.minimum(moved, (terms * by).sum(dim, keepdim=True))
    small = torch.log1p(moved * top.clamp(max=1.0).exp())
    made = torch.where(top < 1, small, top + ((-top).exp() + moved).log())
    return terms * torch.where(moved > 0, made / moved, top.exp())


def _rises(x: Tensor, dim: int) -> Tensor:
    """How often the largest so far rises, from whichever end that is more."""
    n = x.shape[dim]
    if n == 0:
        return torch.zeros_like(x.sum(dim, keepdim=True))
    ways = []
    for y in (x, x.flip(dim)):
        largest = y.cummax(dim).values
        risen = largest.narrow(dim, 1, n - 1) > largest.narrow(dim, 0, n - 1)
        ways.append(risen.sum(dim, keepdim=True))
    return torch.maximum(*ways).double()
