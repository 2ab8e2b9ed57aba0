"""Candidates that misbehave, as the target ``candidates:NAME``; `test_runner` says what of each.

B batch, T tokens, N sequences, H heads, K key dim, V value dim.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import torch

from lingspec.conformance import implements

PROFILE = {"float64": "fp64", "float32": "fp32", "bfloat16": "fp32"}


def right(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    B, T, H, K = q.shape
    ends = [0, T] if cu_seqlens is None else cu_seqlens.tolist()
    N = B if cu_seqlens is None else len(ends) - 1
    start = torch.zeros(N, H, K, v.shape[-1], dtype=wide)
    start = start if initial_state is None else initial_state.clone()
    decay = log_decay.exp()[:, None, None]
    rows, states = [v.to(wide)[:, :0]], [start[:0]]
    for n, (first, last) in enumerate(pairwise(ends)):
        S = start if cu_seqlens is None else start[n : n + 1]
        for t in range(first, last):
            S = decay * S + k[:, t].to(wide)[..., None] * v[:, t].to(wide)[..., None, :]
            rows.append((q[:, t].to(wide)[..., None] * S).sum(-2)[:, None] * scale)
        states.append(S)
    return torch.cat(rows, 1).to(q.dtype), torch.cat(states)


def candidate(**declared):
    """A function of (o, final_state, q) becomes a candidate that changes right results."""

    def decorate(change):
        @implements("lightning_attention", profile=PROFILE, **declared)
        @functools.wraps(change)
        def changed(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
            o, S = right(
                q, k, v, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens
            )
            return change(o, S, q)

        del changed.__wrapped__  # its signature is the op's, not that of the change
        return changed

    return decorate


@candidate(backward=True)
def honest(o, S, q):
    return o, S


CONSTANTS = {}


@candidate()
def returns_nothing_new(o, S, q):
    """Equal results are one tensor each time: where nothing is asked, there is only one answer."""
    if o.numel() or bool(S.any()):
        return o, S
    return CONSTANTS.setdefault((o.shape, o.dtype), o), CONSTANTS.setdefault((S.shape, S.dtype), S)


@candidate()
def repeats_itself(o, S, q):
    """A cache by every bit of what it is a cache of."""
    key = (*(bytes(x.view(torch.uint8).numpy()) for x in (o, S)), o.shape, S.shape, o.dtype)
    return tuple(x.clone() for x in CONSTANTS.setdefault(key, (o, S)))


# -- ends or hangs ---------------------------------------------------------------------------


@candidate()
def segfaults(o, S, q):
    return ctypes.string_at(0)


@candidate()
def leaves_without_a_word(o, S, q):
    os._exit(0)


@candidate()
def exits(o, S, q):
    sys.exit("that will do")


@candidate()
def raises(o, S, q):
    raise ValueError("no\x00thing\nof \x1b[31mthe kind")


@candidate()
def sleeps(o, S, q):
    time.sleep(1000)


@candidate()
def spins(o, S, q):
    while True:
        pass


@candidate()
def leaves_a_child_behind(o, S, q):
    if os.fork():
        os._exit(0)
    time.sleep(1000)


@candidate()
def dies_after_its_answer(o, S, q):
    threading.Timer(0.02, os._exit, (0,)).start()
    return o, S


@candidate()
def closes_its_files(o, S, q):
    os.closerange(3, 256)
    return o, S


@candidate()
def answers_by_itself(o, S, q):
    for fd in range(3, 256):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket"):
                os.write(fd, b"\x02\0\0\0\0\0\0\0[]")
        except OSError:
            continue
    return o, S


# -- returns something else ------------------------------------------------------------------


class Named(torch.Tensor):
    pass


@candidate()
def returns_a_subclass(o, S, q):
    return o.as_subclass(Named), S


@candidate()
def returns_an_array(o, S, q):
    return np.zeros(o.shape, np.float32), S


@candidate()
def returns_one_of_two(o, S, q):
    return o


@candidate()
def returns_nothing(o, S, q):
    return None


@candidate()
def returns_a_sparse_tensor(o, S, q):
    return o.to_sparse(), S


@candidate()
def returns_on_no_device(o, S, q):
    return o.to("meta"), S


@candidate()
def returns_doubles(o, S, q):
    return o.double(), S


@candidate()
def returns_complex_numbers(o, S, q):
    return o.to(torch.complex64), S


@candidate()
def returns_four_bits(o, S, q):
    return torch.zeros(o.shape, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), S


@candidate()
def returns_quantized_numbers(o, S, q):
    return torch.quantize_per_tensor(o.float(), 0.1, 0, torch.qint8), S


@candidate()
def returns_a_negated_view(o, S, q):
    return torch._neg_view(-o), S


@candidate()
def forks_and_returns_twice(o, S, q):
    os.fork()
    return o, S


class UnprintableError(Exception):
    def __str__(self):
        raise ValueError


@candidate()
def raises_what_cannot_be_printed(o, S, q):
    raise UnprintableError


KEPT = {}


@candidate()
def returns_what_it_returned_before(o, S, q):
    kept = KEPT.setdefault(o.shape, torch.empty_like(o))
    return kept.copy_(o), S


KEPT = {}


@candidate()
def keeps_its_buffers(o, S, q):
    return tuple(KEPT.setdefault((x.shape, x.dtype), torch.empty_like(x)).copy_(x) for x in (o, S))


@candidate()
def returns_heads_first(o, S, q):
    return o.transpose(1, 2), S


@candidate()
def returns_nan(o, S, q):
    o[0, 0, 0, 0] = torch.nan
    return o, S


@candidate()
def returns_its_input(o, S, q):
    return q, S


@candidate()
def leaves_results_unwritten(o, S, q):
    return torch.empty_like(o), S


# -- does what it may not --------------------------------------------------------------------


@candidate()
def reads_the_reference(o, S, q):
    from lingspec.reference import lightning_attention  # noqa: F401 - the import is the point

    return o, S


@candidate()
def edits_its_input(o, S, q):
    q[0, 0, 0, 0] += 1
    return o, S


@candidate()
def writes_behind_its_input(o, S, q):
    q.as_strided((1,), (1,), q.storage_offset() + q.numel()).fill_(0)
    return o, S


@candidate()
def writes_between_elements(o, S, q):
    q.as_strided((1,), (1,), q.storage_offset() + q.shape[-1]).fill_(0)
    return o, S


def _later(q):
    time.sleep(0.05)
    q[0, 0, 0, 0] += 1


@candidate()
def edits_its_input_later(o, S, q):
    threading.Thread(target=_later, args=(q,), daemon=True).start()
    if S.shape[0] == 2:  # the second call is still running then
        time.sleep(0.2)
    return o, S


@candidate()
def takes_the_poison_away(o, S, q):
    torch.empty = torch.zeros
    torch.empty_like = torch.zeros_like
    return o, S


@candidate()
def believes_everything_equal(o, S, q):
    torch.equal = lambda *_: True
    torch.Tensor.isfinite = lambda x: x == x
    return o + 1, S


@candidate()
def talks(o, S, q):
    print("word " * 100_000)
    os.write(2, b"noise " * 100_000)
    return o, S


class _TrainsWrongly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, o, S):
        ctx.save_for_backward(o, S)
        return o.detach() + 1, S.detach() * 1

    @staticmethod
    def backward(ctx, do, dS):
        return None, do, dS


@candidate(backward=True)
def computes_something_else_where_it_trains(o, S, q):
    return _TrainsWrongly.apply(q, o, S) if q.requires_grad else (o, S)


@candidate(backward=True)
def has_no_gradients(o, S, q):
    return o.detach(), S.detach()


# -- says what it supports -------------------------------------------------------------------


@candidate(supports=lambda case: "no state, please" if case.has_state else True)
def takes_no_state(o, S, q):
    return o, S


@candidate(supports=lambda case: case.T < 1000 and case.B < 1000 and case.N < 1000)
def asks_for_every_size(o, S, q):
    return o, S


@candidate(supports=lambda case: "")
def gives_no_reason(o, S, q):
    return o, S


@candidate(supports=lambda case: case.nothing)
def cannot_say(o, S, q):
    return o, S
