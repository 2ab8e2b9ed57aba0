"""Quick checks of the mutants and honest variants of lightning_decode and lightning_log_decay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning_calls import (
    DECODE,
    DTYPES,
    UNIT,
    apart,
    copied,
    decode_answer,
    decode_call,
    dtypes,
    parameters,
    run,
)

from lingspec.conformance.registry import honest, mutants


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def decode_is_right(entry, call, dtype):
    want, want_pool = decode_answer(call)
    views = copied(call, apart)
    o = run(entry, views)
    pool, padding = views["state_pool"], call["slots"] < 0
    listed = call["slots"][~padding]
    others = torch.ones(len(pool), dtype=torch.bool).index_fill(0, listed, False)
    sums, _ = decode_answer({**call, **{n: call[n].abs() for n in ("q", "k", "v", "state_pool")}})
    # One rounding of o, one of an operand, and K + 16 operations in float32.
    near = UNIT[dtype] * (want.abs() + sums) + (call["q"].shape[2] + 16) * 2.0**-24 * sums
    return (
        o.dtype == dtype
        and bool(o.isfinite().all())
        and bool(((o - want).abs() <= near)[~padding].all())
        and bool(((pool - want_pool).abs() <= 8 * UNIT[pool.dtype] * (1 + want_pool.abs())).all())
        and torch.equal(pool[others], call["state_pool"][others])
        and all(torch.equal(views[name], call[name]) for name in ("q", "k", "v", "log_decay"))
    )


@parameters("lightning_decode", honest())
def test_an_honest_variant_of_decode_agrees_with_float64(entry):
    for dtype in dtypes(entry):
        for case in DECODE:
            assert decode_is_right(entry, decode_call(**case, dtype=DTYPES[dtype]), DTYPES[dtype])


NEAR = {n: e for n, e in mutants().items() if not e.module.endswith(("_reach", "_sizes"))}


@parameters("lightning_decode", NEAR)
def test_a_mutant_of_decode_is_wrong_somewhere(entry):
    calls = [decode_call(**case) for case in (*DECODE, *DECODE)]  # twice: one keeps states
    assert not all(decode_is_right(entry, call, torch.float32) for call in calls)


LAYERS = [
    (heads, layer, layers, origin)
    for heads in (1, 2, 3, 6, 8, 12, 20, 32, 48, 64)
    for layers in (2, 20, 80)
    for layer in {0, 1, layers // 2, layers - 1}
    for origin in (0, 1)
]


def exponents(heads, layer, layers, origin):
    below = 2 ** (heads.bit_length() - 1)
    powers = [8 * (h + 1) / below for h in range(below)]
    powers += [4 * (2 * h + 1) / below for h in range(heads - below)]
    slopes = np.exp2(-np.array(powers)).astype(np.float32)
    return -(slopes * np.float32(1 - (layer - origin) / (layers - 1) + 1e-5))


def log_decay_is_right(entry, heads, layer, layers, origin):
    got = np.asarray(entry.function(heads, layer, layers, origin=origin))
    want = exponents(heads, layer, layers, origin)
    return got.dtype == want.dtype and np.array_equal(got, want)


@parameters("lightning_log_decay", honest())
def test_an_honest_variant_of_log_decay_has_equal_bits(entry):
    assert all(log_decay_is_right(entry, *layer) for layer in LAYERS)


@parameters("lightning_log_decay", NEAR)
def test_a_mutant_of_log_decay_differs_in_some_bit(entry):
    assert not all(log_decay_is_right(entry, *layer) for layer in LAYERS)
