"""Kernels that take few sizes, those that they are made for; `wrong` is, the others are right."""

from __future__ import annotations

import torch

from lingspec.conformance import implements


def _rows(x, weight, *, eps):
    wide = x.float()
    mean = wide.square().mean(-1, keepdim=True)
    return (wide / torch.sqrt(mean + eps) * weight.float()).to(x.dtype)


@implements("rms_norm", profile="fp32", supports=lambda case: case.D % 256 == 0 or "D % 256")
def tiles(x, weight, *, eps):
    return _rows(x, weight, eps=eps)


@implements("rms_norm", profile="fp32", supports=lambda case: case.D == 8192 or "D must be 8192")
def model(x, weight, *, eps):
    return _rows(x, weight, eps=eps)


@implements("rms_norm", profile="fp32", supports=lambda case: case.D == 8192 or "D must be 8192")
def wrong(x, weight, *, eps):
    return 1.01 * _rows(x, weight, eps=eps)


@implements("rms_norm", profile="fp32", supports=lambda case: "never")
def nothing(x, weight, *, eps):
    raise AssertionError
