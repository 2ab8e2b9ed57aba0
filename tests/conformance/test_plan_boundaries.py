"""Plans go up to what a contract is silent on: the last that is said is drawn."""

from __future__ import annotations

import functools

import pytest
import torch

from lingspec.conformance.accuracy.profiles import DEFAULTS, profile
from lingspec.conformance.case import DTYPES
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.plan import plan

HALF = torch.finfo(torch.float16).max


@functools.cache
def calls(op, dtype, law="authority"):
    of = contract(op)
    return [of.make(case) for case in plan(of, (law,), dtype, "native", "ci", 0)]


def largest(op, dtype, number, law="authority"):
    found = [number(call) for call in calls(op, dtype, law)]
    return max(float(x.max()) for x in found if x.numel())


def squares(call):
    t = {name: x.double() for name, x in call.tensors.items()}
    rows = t["x"] + t["residual"] if "residual" in t else t.get("x", t.get("q"))
    return rows.square().sum(-1)


@pytest.mark.parametrize("op", ["rms_norm", "add_rms_norm", "gated_group_rms_norm", "qk_norm_rope"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_sums_of_squares_come_near_the_end_of_float32_and_stay_inside(op, dtype):
    assert 2.0**123 < largest(op, dtype, squares) < 2.0**127.5


def test_sums_and_products_come_near_the_end_of_float16_and_stay_inside():
    def added(call):
        return (call.tensors["x"].double() + call.tensors["residual"].double()).abs()

    def opened(call):
        gate, up = call.tensors["gate_up"].double().chunk(2, dim=-1)
        return (torch.nn.functional.silu(gate) * up).abs()

    def scaled(call):
        if call.params["block"] is not None:
            return torch.zeros(0)
        return (call.tensors["q"].double().nan_to_num() * call.tensors["scale"].double()).abs()

    assert HALF - 1000 < largest("add_rms_norm", "f16", added) <= HALF
    assert HALF - 1000 < largest("swiglu", "f16", opened) <= HALF
    assert 57_344 < largest("fp8_dequantize", "f16", scaled) <= HALF


@pytest.mark.parametrize("op", ["lightning_attention", "lightning_decode"])
def test_decays_are_zero_and_beyond_every_integer_and_finite(op):
    seen = torch.cat([call.tensors["log_decay"] for call in calls(op, "f32")])
    assert bool(seen.isfinite().all())
    assert float(seen.max()) == 0
    assert float(seen.min()) < -(2.0**63)


@pytest.mark.parametrize(
    ("op", "least"),
    [("lightning_attention", 1e-6), ("lightning_decode", 1e-6), ("mla_attention", 0.01),
     ("mla_decode", 0.01)],
)  # fmt: skip
def test_scales_are_small_and_above_zero(op, least):
    assert 0 < min(call.params["scale"] for call in calls(op, "f32")) < least


def test_logits_are_so_large_that_their_exponentials_are_not_finite():
    seen = torch.cat([call.tensors["logits"].flatten() for call in calls("moe_route", "f32")])
    assert float(seen[seen.isfinite()].max()) > 89


def test_scales_of_codes_come_near_both_ends_of_float32():
    seen = torch.cat([call.tensors["scale"].flatten() for call in calls("fp8_dequantize", "f32")])
    assert bool(seen.isfinite().all())
    assert float(seen.max()) > 2.0**120
    assert 0 < float(seen.min()) < 1e-30


def test_positions_are_the_first_and_the_last():
    seen = [call.tensors["positions"].flatten() for call in calls("rope_table", "f32")]
    assert float(torch.cat(seen).min()) == 0
    assert float(torch.cat(seen).max()) == 2**20 - 1


def test_gates_are_a_hundred_either_way_and_no_more():
    seen = [call.tensors["gate_up"].chunk(2, dim=-1)[0].flatten() for call in calls("swiglu", "f32")
            if call.tensors["gate_up"].dim()]  # fmt: skip
    assert (float(torch.cat(seen).min()), float(torch.cat(seen).max())) == (-100, 100)


@pytest.mark.parametrize(
    ("op", "rows"), [("lightning_decode", "state_pool"), ("latent_cache_write", "cache")]
)
def test_slots_are_the_first_and_the_last(op, rows):
    first = last = 0
    for call in calls(op, "f32"):
        slots, pool = call.tensors["slots"], call.tensors[rows]
        many = pool.shape[0] * (pool.shape[1] if rows == "cache" else 1)
        first += int((slots == 0).any())
        last += int((slots == many - 1).any())
    assert min(first, last) >= 3


def test_pages_are_the_first_and_the_last_and_lengths_are_nothing_and_all():
    seen = set()
    for call in calls("mla_decode", "f32"):
        cache, pages, lengths = (call.tensors[n] for n in ("cache", "pages", "lengths"))
        P, G, _ = cache.shape
        seen |= {"no row"} if bool((lengths == 0).any()) else set()
        full = lengths == G * pages.shape[1]
        seen |= {"every row"} if pages.shape[1] and bool(full.any()) else set()
        for row, length in zip(pages.tolist(), lengths.tolist(), strict=True):
            used = set(row[: -(-length // G)])
            seen |= {"first"} if 0 in used else set()
            seen |= {"last"} if P - 1 in used else set()
    assert seen == {"no row", "every row", "first", "last"}


def judgeable():
    for op in OPS:
        for dtype in ("f32", "bf16", "f16"):
            if str(DTYPES[dtype]).removeprefix("torch.") in contract(op).profiles:
                yield pytest.param(op, dtype, id=f"{op}-{dtype}")


@pytest.mark.parametrize(("op", "dtype"), list(judgeable()))
def test_every_kind_of_a_case_can_be_judged(op, dtype):
    """What is VOID in every case of its kind would be drawn and never asked."""
    of, used = contract(op), profile(DEFAULTS[str(DTYPES[dtype]).removeprefix("torch.")])
    judged: dict[tuple[str, str], bool] = {}
    for case in plan(of, ("authority",), dtype, "native", "ci", 0):
        kinds = case.traits.items()
        if not all(judged.get(kind) for kind in kinds):
            want = of.authority(of.make(case), used)
            said = all(expected.finite() for expected in want.values())
            judged |= {kind: judged.get(kind, False) or said for kind in kinds}
    assert [kind for kind, said in judged.items() if not said] == []
