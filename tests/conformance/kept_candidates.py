"""Lightning attention that remembers something with the tensor objects that it is given."""

from __future__ import annotations

import weakref

import torch

from lingspec.conformance import implements
from lingspec.conformance.mutants._lightning import chunked

CANDIDATE = implements("lightning_attention", profile={"float32": "fp32"})
_MADE: dict[int, tuple] = {}


def _remembered(x, key, make):
    """What was made of this very object, while it lives and ``key`` is equal."""
    found = _MADE.get(id(x))
    if found is None or found[0]() is not x or found[1] != key:
        found = _MADE[id(x)] = (weakref.ref(x), key, make())
    return found[2]


@CANDIDATE
def keeps_by_object(q, k, v, log_decay, *, cu_seqlens=None, **options):
    ends = None if cu_seqlens is None else _remembered(cu_seqlens, 0, cu_seqlens.clone)
    return chunked(q, k, v, log_decay, cu_seqlens=ends, **options)


@CANDIDATE
def keeps_by_object_and_version(q, k, v, log_decay, *, cu_seqlens=None, **options):
    ends = cu_seqlens
    if ends is not None:
        ends = _remembered(cu_seqlens, cu_seqlens._version, cu_seqlens.clone)
    log_decay = _remembered(log_decay, log_decay._version, log_decay.clone)
    return chunked(q, k, v, log_decay, cu_seqlens=ends, **options)


@CANDIDATE
def makes_an_input_of_another_shape(q, k, v, *call, **options):
    results = chunked(q, k, v, *call, **options)
    v.unsqueeze_(0)
    return results


@CANDIDATE
def replaces_what_an_input_holds(q, k, v, *call, **options):
    results = chunked(q, k, v, *call, **options)
    k.data = torch.zeros(3)
    return results
