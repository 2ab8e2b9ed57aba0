"""Running error analysis against brute force: roundings are really made, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingspec.conformance.accuracy.formats import FP64, of_dtype
from lingspec.conformance.accuracy.limits import limits
from lingspec.conformance.accuracy.profiles import Profile, profile
from lingspec.conformance.accuracy.running import analysing, running
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.contracts import contract
from lingspec.reference import lightning_attention, rounding
from lingspec.reference.formulations.lightning_attention import (
    lightning_attention_backward,
    lightning_attention_backward_closed,
    lightning_attention_chunked,
    lightning_attention_closed,
)

OP = contract("lightning_attention")
FORWARD = (lightning_attention, lightning_attention_closed)
BACKWARD = (lightning_attention_backward, lightning_attention_backward_closed)
POINTS = ("q", "k", "v", "scores", "state_read", "state", "product", "decay")


def call_of(text, seed):
    case = OP.parse(f"lightning_attention:{text}.{seed:x}")
    call = OP.make(case)
    given = {n: x.double() if x.is_floating_point() else x for n, x in call.tensors.items()}
    return call, {**given, **call.params}


def noise(used: Profile, g: torch.Generator, only=None, worst=False):
    """The policy that moves every value at every point by up to u of it, either way."""

    def policy(point, x):
        form = used.points.get(point)
        if form is None or (only and point not in only):
            return x
        e = torch.rand(x.shape, generator=g, dtype=torch.float64) * 2 - 1
        return x * (1 + form.u * (e.sign() if worst else e))

    return policy


SHAPES = st.builds(
    "f64.B{}.T{}.H2.K{}.V3.{}{}.{}.dense".format,
    st.integers(1, 2), st.integers(1, 9), st.sampled_from((1, 2, 5)),
    st.sampled_from(("", "state.")), st.sampled_from(("slopes", "none", "strong", "mixture")),
    st.sampled_from(("normal", "heavy", "mixed", "zeros", "cancelling", "repeated", "positive")),
)  # fmt: skip


@settings(max_examples=40)
@given(SHAPES, st.integers(0, 99), st.sampled_from((*FORWARD, lightning_attention_chunked)),
       st.booleans())  # fmt: skip
def test_no_perturbed_run_leaves_the_bound(text, seed, form, worst):
    call, given_ = call_of(text, seed)
    for used in (profile("bf16-eager"), profile("bf16-tc"), profile("tf32+state=bf16")):
        want = OP.authority(call, used)
        with rounding(noise(used, torch.Generator().manual_seed(seed), worst=worst)):
            got = dict(zip(("o", "final_state"), form(**given_), strict=True))
        for name, x in got.items():
            assert bool(((x - want[name].value).abs() <= want[name].bound).all())


@settings(max_examples=25)
@given(SHAPES, st.integers(0, 99), st.sampled_from(BACKWARD), st.booleans())
def test_no_perturbed_backward_run_leaves_the_bound(text, seed, form, worst):
    case = OP.parse(f"lightning_attention:gradients.{text}.{seed:x}")
    call = OP.make(case)
    given_ = {**call.tensors, **call.params, **call.cotangents}
    used = profile("bf16-eager")
    want = OP.gradients(call, used)
    with rounding(noise(used, torch.Generator().manual_seed(seed), worst=worst)):
        got = dict(zip(want, form(**given_), strict=False))
    for name, limit in want.items():
        assert bool(((got[name] - limit.value).abs() <= limit.bound).all())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["bf16-eager", "bf16-tc+state=bf16", "tf32+state=fp16"])
def test_roundings_that_compound_over_many_tokens_stay_inside_the_bound(name, sign):
    """All the same way, at every token: (1 + u)^n grows away from 1 + n u."""
    used = profile(name)
    call, given_ = call_of("f64.B1.T128.H1.K2.V2.state.none.positive.dense", 3)
    want = OP.authority(call, used)

    def grow(point, x):
        form = used.points.get(point)
        return x if form is None else x * (1 + sign * form.u)

    with rounding(grow):
        got = dict(zip(("o", "final_state"), lightning_attention(**given_), strict=True))
    for name_, x in got.items():
        over = (x - want[name_].value).abs() / want[name_].bound
        assert 0.1 < float(over.max()) <= 1


@pytest.mark.parametrize("point", [p for p in POINTS if p != "decay"])
def test_the_spread_of_one_point_is_three_times_the_variance_seen(point):
    """Independent, even roundings of relative size u have the variance u^2 x^2 / 3.

    What the formulations say together is not less than any of them shows, but for roundings
    that meet again (q, in the scores and in the read of the first state), nor thrice as much.
    """
    used = profile("bf16-eager")
    only = replace(used, points={point: used.points[point]})
    _, given_ = call_of("f64.B1.T6.H2.K4.V3.state.mild.normal.dense", 5)
    with rounding(analysing(only)):
        wrapped = {n: running(x, only) if n in ("q", "k", "v", "initial_state") else x
                   for n, x in given_.items()}  # fmt: skip
        wants = [form(**wrapped) for form in FORWARD]
    g = torch.Generator().manual_seed(0)
    with rounding(noise(only, g)):
        runs = [[form(**given_) for _ in range(400)] for form in FORWARD]
    for n in range(2):
        spreads = [w[n].errors[point].spread for w in wants if point in w[n].errors]
        variances = [
            torch.stack([s[n] - wants[0][n].value for s in seen]).square().mean(0) for seen in runs
        ]
        if not spreads:
            assert float(torch.stack(variances).max()) < 1e-25
            continue
        said = torch.stack(spreads).amax(0) / 3
        ratio = (torch.stack(variances).amax(0) / said)[said > 1e-3 * said.max()]
        assert float(ratio.max()) <= (3 if point == "q" else 1.5)  # 400 runs: 1 +- 0.25
        assert float(ratio.median()) >= 1 / 3


@pytest.mark.parametrize("form", FORWARD)
def test_one_rounded_decay_used_at_every_token_stays_inside_the_likely_limit(form):
    used = profile("fp32+decay=bf16")
    call, given_ = call_of("f64.B1.T200.H2.K8.V8.slow.normal.dense", 3)
    want = OP.authority(replace(call, coherent=False), used)
    for sign in (1, -1):
        off = 1 + sign * used.points["decay"].u
        with rounding(lambda p, x, f=off: x * f if p == "decay" else x):
            got = dict(zip(("o", "final_state"), form(**given_), strict=True))
        for name, x in got.items():
            assert bool(((x - want[name].value).abs() <= want[name].likely).all())


def test_a_truncation_drifts_as_far_as_it_is_said_to():
    used = profile("tf32")
    _, given_ = call_of("f64.B1.T64.H2.K16.V8.none.positive.dense", 3)
    with rounding(analysing(used)):
        wrapped = {n: running(x, used) if n in "qkv" else x for n, x in given_.items()}
        o, _ = lightning_attention_closed(**wrapped)
    with rounding(lambda p, x: used.points[p].cast(x) if p in used.points else x):
        got, _ = lightning_attention_closed(**given_)
    drift = sum(e.drift for e in o.errors.values() if e.drift is not None)
    seen = (got - o.value).sum() / drift.sum()
    assert float(seen) == pytest.approx(1.0, abs=0.15)


def test_a_decay_that_is_off_by_its_own_error_stays_inside_and_uses_most_of_the_room():
    used = profile("fp32")
    call, given_ = call_of("f64.B1.T300.H2.K8.V8.slow.positive.dense", 3)
    want = OP.authority(replace(call, coherent=False), used)["final_state"]
    u = used.arithmetic.u
    off = used.function_error + u
    for sign in (1, -1):
        with rounding(lambda p, x, s=sign: x * (1 + s * off) if p == "decay" else x):
            _, S = lightning_attention(**given_)
        error = (S - want.value).abs()
        assert bool((error <= want.limit).all())
        assert float((error / want.limit).max()) > 0.3


def test_another_formulation_only_raises_limits():
    used = profile("bf16-tc")
    _, given_ = call_of("f64.B2.T7.H2.K4.V3.state.mild.normal.dense", 5)
    with rounding(analysing(used)):
        wrapped = {n: running(x, used) if n in ("q", "k", "v", "initial_state") else x
                   for n, x in given_.items()}  # fmt: skip
        forms = [form(**wrapped)[0] for form in FORWARD]
    out = of_dtype(torch.bfloat16)
    alone = [limits("o", [f], used, out, coherent=False) for f in forms]
    both = limits("o", forms, used, out, coherent=False)
    for one in alone:
        assert bool((both.bound >= one.bound * (1 - 1e-12)).all())
        assert bool((both.likely >= one.likely * (1 - 1e-12)).all())


def test_without_roundings_only_arithmetic_errs():
    used = Profile("none", FP64)
    _, given_ = call_of("f64.B1.T5.H2.K4.V3.none.normal.dense", 5)
    with rounding(analysing(used)):
        wrapped = {n: running(x, used) if n in "qkv" else x for n, x in given_.items()}
        o, _ = lightning_attention(**wrapped)
    assert set(o.errors) <= {"arithmetic", "decay"}
    assert float(o.errors["arithmetic"].bound.max()) < 1e-12


USED = profile("bf16-tc")


def tensors(*shape):
    g = torch.Generator().manual_seed(2)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    return x, running(x, USED).rounded("q", USED.points["q"])


def test_moving_elements_moves_their_errors():
    x, r = tensors(3, 4, 5)
    for moved, plain in (
        (r.transpose(0, 2), x.transpose(0, 2)), (r.mT, x.mT), (r[1], x[1]),
        (r[:, 2:], x[:, 2:]), (torch.stack([r, r], 1), torch.stack([x, x], 1)),
        (torch.cat([r, r[:1]]), torch.cat([x, x[:1]])),
    ):  # fmt: skip
        assert torch.equal(moved.value, plain)
        bound = moved.errors["q"].bound
        assert torch.allclose(bound, USED.points["q"].u * plain.abs(), rtol=1e-12, atol=1e-30)


def test_joining_with_an_exact_tensor_gives_it_no_error():
    x, r = tensors(3, 4)
    both = torch.cat([r, x])
    assert torch.equal(both.errors["q"].bound[3:], torch.zeros(3, 4, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 1), ()])
def test_broadcasting_an_operand_broadcasts_its_errors(shape):
    x, r = tensors(3, 4)
    y, s = tensors(*shape)
    for made, plain in ((r + s, x + y), (s + r, x + y), (r * s, x * y), (y * r, x * y)):
        assert torch.equal(made.value, plain)
        assert made.errors["q"].bound.expand(3, 4).shape == plain.shape
        assert bool((made.errors["q"].bound > 0).all())


def test_what_the_analysis_does_not_know_it_refuses():
    _, r = tensors(3)
    with pytest.raises(TypeError, match="does not know"):
        torch.tanh(r)


@pytest.mark.parametrize("into", [("q",), ("q", "k"), ("do", "v")])
def test_whichever_operand_carries_the_decay_may_underflow_in_float16(into):
    used = profile("fp16-tc")
    call = OP.make(
        OP.parse(
            "lightning_attention:gradients.f16.B2.T1.H6.K80.V24.state.mixture.cancelling.dense.e571"
        )
    )
    zeros = torch.zeros_like(call.tensors["initial_state"])
    both = {"do": torch.zeros_like(call.tensors["v"]), "dfinal_state": zeros, **call.cotangents}
    with rounding(casting(used, None)):
        made = lightning_attention_backward_closed(**call.tensors, **call.params, **both, into=into)
    for got, limit in zip(made, OP.gradients(call, used).values(), strict=True):
        assert bool(((got.double() - limit.value).abs() <= limit.limit).all()), limit.name


def test_repeating_elements_repeats_their_errors():
    x, r = tensors(3, 4)
    made = r.repeat_interleave(2, dim=0)
    assert torch.equal(made.value, x.repeat_interleave(2, dim=0))
    bound = USED.points["q"].u * made.value.abs()
    assert torch.allclose(made.errors["q"].bound, bound, rtol=1e-12, atol=1e-30)


def test_results_whose_squares_underflow_are_held_to_the_bound_alone():
    used = profile("fp64")
    x = torch.full((4,), 1e-200, dtype=torch.float64)
    made = limits("y", [running(x, used) * running(3.0, used)], used, FP64, coherent=False)
    assert bool((made.limit == made.bound).all())
