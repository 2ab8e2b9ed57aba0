"""Each question of a verdict has an input that only it rejects, and says it in the right words."""

from __future__ import annotations

import pytest
import torch
from judging import ATTENTION

from lingspec.conformance.accuracy.profiles import profile
from lingspec.conformance.accuracy.verdict import excess, judge, signal
from lingspec.conformance.contracts import contract

FP32 = profile("fp32")
DECODE = contract("lightning_decode")
# Two heads, 2 * 96 rows each: enough for statistics.
GRADIENTS = ".bf16.B2.T96.H2.K48.V48.state.slow.normal.dense.7"
CASE = "lightning_attention:bf16.B2.T96.H2.K16.V16.slow.normal.dense.7"


@pytest.fixture(scope="module")
def right():
    case = ATTENTION.parse(CASE)
    call = ATTENTION.make(case)
    used = profile("bf16-tc")
    want = ATTENTION.authority(call, used)["o"]
    return want, [v["o"] for v in ATTENTION.variants(call, used)]


def asked(right, got, dtype=torch.bfloat16):
    want, variants = right
    return judge(got, want, dtype, variants)


def exact(right):
    return right[0].value.to(torch.bfloat16)


def test_the_authority_rounded_once_is_accepted(right):
    assert asked(right, exact(right)) is None


def test_every_honest_variant_is_accepted(right):
    assert [asked(right, v) for v in right[1]] == [None] * len(right[1])


def test_another_dtype_is_rejected_before_anything_else(right):
    found = asked(right, exact(right).float())
    assert (found.kind, found.text) == ("dtype", "o has dtype float32, but must have bfloat16")


def test_another_shape_is_rejected(right):
    found = asked(right, exact(right)[:, :-1])
    assert found.kind == "shape"
    assert found.text == "o has shape (2, 95, 2, 16), but must have (2, 96, 2, 16)"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_not_finite_is_rejected_where_it_is(right, bad):
    got = exact(right)
    got[1, 3, 0, 5] = bad
    found = asked(right, got)
    assert (found.kind, found.where) == ("finite", "o[1, 3, 0, 5]")


def outside(right, *places):
    got, want = right[0].value.clone(), right[0]
    for at in places:
        got[at] += 4 * want.limit[at]
    return got.to(torch.bfloat16)


def test_one_element_outside_its_limit_is_rejected_with_its_head_and_token(right):
    found = asked(right, outside(right, (1, 40, 1, 3)))
    assert found.kind == "element"
    assert found.where.startswith("head 1: ")
    assert found.where.endswith("; tokens 40; heads 0 inside")
    assert found.got_want.startswith("[1,40,1,3] ")
    assert 2 < found.excess < 6


def test_runs_of_tokens_and_heads_are_folded(right):
    places = [(0, t, h, 0) for t in (3, 4, 5, 60) for h in (0, 1)]
    found = asked(right, outside(right, *places))
    assert found.where.startswith("heads 0-1: ")
    assert found.where.endswith("; tokens 3-5, 60; no head inside")


def test_an_element_just_inside_its_limit_is_accepted(right):
    want = right[0]
    got = want.value.clone()
    at = (0, 50, 0, 0)
    got[at] += 0.9 * want.limit[at]
    assert judge(got, want, torch.float64) is None
    got[at] += 0.2 * want.limit[at]
    assert judge(got, want, torch.float64).kind == "element"


def test_errors_of_which_each_is_inside_but_all_are_large_are_rejected_as_a_slice(right):
    want, variants = right
    sign = torch.randn(want.value.shape, generator=torch.Generator().manual_seed(3)).sign()
    got = want.value + 0.5 * want.limit * sign
    assert float(excess(got - want.value, want).max()) < 1
    found = judge(got, want, torch.float64, variants)
    assert found.kind == "slice"
    assert found.where == "all of o of head 0"
    assert "o of head 0 errs as no honest implementation does" in found.text


def test_a_gain_that_hides_in_every_element_is_rejected_as_a_gain(right):
    want, variants = right
    found = judge(1.006 * want.value, want, torch.float64, variants)
    assert found.kind == "gain"
    assert "o of head 0 is 1.00" in found.text


def test_rows_that_have_no_room_are_left_out_of_the_mean_and_the_others_are_not():
    case = DECODE.parse("lightning_decode:bf16.B256.H2.K16.V16.P258.padding.slow.normal.dense.7")
    call, used = DECODE.make(case), profile("bf16-tc")
    want = DECODE.authority(call, used)["o"]
    variants = [v["o"] for v in DECODE.variants(call, used)]
    assert float(want.deviation.min()) == 0
    assert judge(want.value, want, torch.float64, variants) is None
    got = want.value.clone()
    got[:, 1] *= 1.01
    assert judge(got, want, torch.float64) is None
    found = judge(got, want, torch.float64, variants)
    assert found.kind in ("gain", "slice")
    assert found.where == "all of o of head 1"


@pytest.mark.parametrize("name", ["dq", "dk", "dv"])
def test_a_gain_of_a_gradient_that_hides_in_every_element_is_rejected(name):
    case = ATTENTION.parse("lightning_attention:gradients" + GRADIENTS)
    call, used = ATTENTION.make(case), profile("bf16-tc")
    want = ATTENTION.gradients(call, used)[name]
    variants = [v[name] for v in ATTENTION.gradient_variants(call, used)]
    assert judge(want.value, want, torch.float64, variants) is None
    assert judge(1.006 * want.value, want, torch.float64) is None
    assert judge(1.006 * want.value, want, torch.float64, variants).kind in ("gain", "slice")


def test_without_variants_only_elements_are_judged(right):
    assert judge(1.006 * right[0].value, right[0], torch.float64) is None


def test_nothing_is_within_a_limit_of_zero_but_the_value_itself(right):
    want = right[0]
    none = want.scaled(1.0)
    none.bound.zero_()
    none.likely.zero_()
    assert judge(none.value, none, torch.float64) is None
    got = none.value.clone()
    got[0, 0, 0, 0] += 1e-12
    assert judge(got, none, torch.float64).kind == "element"


def test_an_empty_tensor_is_right_if_its_shape_is():
    case = ATTENTION.parse("lightning_attention:f32.B2.T0.H2.K8.V8.slow.normal.dense.7")
    want = ATTENTION.authority(ATTENTION.make(case), FP32)["o"]
    assert judge(torch.zeros(2, 0, 2, 8), want, torch.float32) is None
    assert judge(torch.zeros(2, 0, 8, 2), want, torch.float32).kind == "shape"
    assert not signal(want)


def test_a_case_has_signal_where_its_limits_are_small_beside_its_values(right):
    want = right[0]
    assert signal(want)
    assert not signal(want.scaled(0.0))


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_a_case_whose_right_results_the_format_does_not_hold_cannot_be_judged(dtype):
    text = f"lightning_attention:exact.{dtype}.B1.T15.H1.K40.V16.exactly.wide.dense.1"
    want = ATTENTION.authority(ATTENTION.make(ATTENTION.parse(text)), FP32)["o"]
    assert float(want.value.abs().max()) > 65504
    assert want.finite() == (dtype == "bf16")
