"""Roundings that are really made, in float64: by less than a rounding may be, or by all of it."""

from __future__ import annotations

import torch

from lingspec.conformance.accuracy.profiles import Profile


def noise(used: Profile, g: torch.Generator, only=None, worst=False):
    """The policy that moves every value at every point by up to u of it, all the same way at worst.

    To a neighbour less than u away, where it stays when it is rounded again; at one point only,
    evenly.
    """

    def policy(point, x):
        form = used.points.get(point)
        if form is None or (only and point not in only):
            return x
        e = torch.rand(x.shape, generator=g, dtype=torch.float64) * 2 - 1
        return x * (1 + form.u * e) if only else directed(x, form.u, worst or e > 0)

    return policy


def directed(x, u, up):
    """``x`` away from zero, or toward it, to the next of the numbers that lie up to u x apart."""
    mantissa, exponent = torch.frexp(x)
    whole = mantissa.abs() / (u / 2)  # of mantissas from 1/2 to 1
    whole = torch.where(torch.as_tensor(up), whole.ceil(), whole.floor())
    return torch.ldexp(x.sign() * whole * (u / 2), exponent)
