"""Running error analysis against brute force: roundings are really made, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from perturbed import directed, noise

from lingspec import reference
from lingspec.conformance.accuracy.formats import BF16, FP64, of_dtype
from lingspec.conformance.accuracy.limits import limits
from lingspec.conformance.accuracy.profiles import Profile, profile
from lingspec.conformance.accuracy.running import analysing, running, stored
from lingspec.conformance.accuracy.variants import casting
from lingspec.conformance.contracts import contract
from lingspec.conformance.plan import draw
from lingspec.reference import add_rms_norm, lightning_attention, rounding
from lingspec.reference.formulations.lightning_attention import (
    lightning_attention_backward,
    lightning_attention_backward_closed,
    lightning_attention_chunked,
    lightning_attention_closed,
)
from lingspec.reference.rounding import at

OP = contract("lightning_attention")
FORWARD = (lightning_attention, lightning_attention_closed)
BACKWARD = (lightning_attention_backward, lightning_attention_backward_closed)
POINTS = ("q", "k", "v", "scores", "state_read", "state", "product", "decay")


def call_of(text, seed):
    case = OP.parse(f"lightning_attention:{text}.{seed:x}")
    call = OP.make(case)
    given = {n: x.double() if x.is_floating_point() else x for n, x in call.tensors.items()}
    return call, {**given, **call.params}


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
        return x if form is None else directed(x, form.u, sign > 0)

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
        told = [w[n].errors.points for w in wants]
        spreads = [of[point].spread for of in told if point in of]
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
    drift = o.errors.trend
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
    assert set(o.errors.points) <= {"arithmetic", "decay"}
    assert float(o.errors.points["arithmetic"].bound.max()) < 1e-12


# -- functions and shapes -----------------------------------------------------------------------


@settings(max_examples=60)
@given(st.sampled_from(("cos", "sin")), st.integers(0, 999), st.integers(-30, 8))
def test_a_wave_of_an_argument_that_errs_stays_inside_the_bound(name, seed, size):
    used = profile("bf16-tc")
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(64, generator=g, dtype=torch.float64) * 2.0**size
    with rounding(analysing(used)):
        r = running(x, used).rounded("q", used.points["q"])
        want = getattr(torch, name)(r)
    bound = want.errors.reach
    for sign in (-1, 1, torch.rand(64, generator=g) * 2 - 1):
        got = getattr(torch, name)(x * (1 + sign * used.points["q"].u))
        assert bool(((got - want.value).abs() <= bound).all())
    assert bool((bound <= 1 + want.value.abs() + 2 * used.function_error).all())


@given(st.integers(0, 999))
def test_what_is_clamped_errs_by_no_more_and_outside_by_nothing(seed):
    used = profile("bf16-tc")
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(64, generator=g, dtype=torch.float64) * 3 - 1
    r = running(x, used).rounded("q", used.points["q"])
    made = r.clamp(0.0, 1.0)
    bound = made.errors.points["q"].bound
    for sign in (-1, 1):
        got = (x * (1 + 0.999 * sign * used.points["q"].u)).clamp(0, 1)
        assert bool(((got - made.value).abs() <= bound).all())
    assert not bool(bound[(x < -0.1) | (x > 1.1)].any())


def test_what_was_rounded_is_not_rounded_again_where_it_is_stored():
    x = torch.linspace(1, 2, 99, dtype=torch.float64)
    r = running(x, USED).rounded("q", USED.points["q"])
    want = limits("y", [torch.cat([r[:50], r[50:]])], USED, of_dtype(torch.bfloat16), coherent=True)
    assert bool((want.bound <= 2.0**-8 * x * (1 + 2.0**-7) + 1e-30).all())
    again = r.rounded("k", USED.points["k"])
    assert set(again.errors.points) == {"q"}


@pytest.mark.parametrize("name", ["bf16-tc", "fp32"])
def test_what_is_only_moved_keeps_its_bits(name):
    used = profile(name)
    x = torch.randn(40, dtype=torch.float64).bfloat16()
    r = stored(x, used)
    both = torch.cat([r[:20] * 3, r[20:]])
    want = limits("y", [both], used, of_dtype(torch.bfloat16), coherent=True)
    assert bool((want.limit[20:] <= 2.0**-126).all())
    assert bool((want.limit[:20] >= 2.0**-8 * want.value[:20].abs()).all())


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(-12, 1), st.sampled_from(("fp32+spec=bf16", "fp32")),
       st.booleans())  # fmt: skip
def test_a_sum_that_nearly_cancels_stays_inside_the_bound_and_is_not_given_more(
    seed, size, name, worst
):
    used = profile(name)
    g = torch.Generator().manual_seed(seed)
    x, noise_ = torch.randn(2, 3, 16, generator=g, dtype=torch.float64)
    given_ = {"x": x.float().double(), "residual": (-x + 2.0**size * noise_).float().double()}
    given_["weight"] = torch.rand(16, generator=g).double() + 0.5

    def single(point, y):  # every sum and rounding, in float32
        form = used.points.get(point)
        return y if form is None else directed(y, form.u, worst)

    with rounding(analysing(used)):
        carried = {n: running(v, used) for n, v in given_.items()}
        want, _ = add_rms_norm(**carried, eps=1e-6)
    bound = want.errors.reach
    with rounding(single):
        made = [add_rms_norm(**{n: v.to(d) for n, v in given_.items()}, eps=1e-6)[0].double()
                for d in (torch.float32, torch.float64)]  # fmt: skip
    for y in made:
        assert bool(((y - want.value).abs() <= bound).all())
    # Where the residual rounds, it, the root of its mean square, and the result are one each. In
    # float32: half of 21 (a sum of 16 squares, of numbers that err by 1 each, a quotient and eps),
    # 4 of the root, and 3 products and sums.
    most, u = (3.0, 2.0**-8) if used.points else (17.5, 2.0**-24)
    assert bool((bound <= 1.01 * most * u * want.value.abs().amax(-1, keepdim=True)).all())


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
        bound = moved.errors.points["q"].bound
        assert torch.allclose(bound, USED.points["q"].u * plain.abs(), rtol=1e-12, atol=1e-30)


def test_joining_with_an_exact_tensor_gives_it_no_error():
    x, r = tensors(3, 4)
    both = torch.cat([r, x])
    assert torch.equal(both.errors.points["q"].bound[3:], torch.zeros(3, 4, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 1), ()])
def test_broadcasting_an_operand_broadcasts_its_errors(shape):
    x, r = tensors(3, 4)
    y, s = tensors(*shape)
    for made, plain in ((r + s, x + y), (s + r, x + y), (r * s, x * y), (y * r, x * y)):
        assert torch.equal(made.value, plain)
        assert made.errors.points["q"].bound.expand(3, 4).shape == plain.shape
        assert bool((made.errors.points["q"].bound > 0).all())


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


MLA = st.sampled_from(("mla_attention", "mla_decode", "merge_attention"))


@settings(max_examples=40)
@given(MLA, st.integers(1, 40), st.integers(0, 99), st.booleans(),
       st.sampled_from(("bf16-eager", "bf16-tc", "tf32")))  # fmt: skip
@example("mla_attention", 3, 62, False, "bf16-eager")  # scores that err by more than a hundred
def test_no_perturbed_run_of_softmax_attention_leaves_the_bound(op, index, seed, worst, name):
    of = contract(op)
    call = of.make(draw(of, "authority", "interpreted", "f64", seed, index))
    used = profile(name)
    want = of.authority(call, used)
    with rounding(noise(used, torch.Generator().manual_seed(seed), worst=worst)):
        got = getattr(reference, op)(**call.tensors, **call.params)
    for (_, limit), x in zip(want.items(), got, strict=True):
        inside = (x - limit.value).abs() <= limit.bound
        assert bool((inside | (x == limit.value) | ~limit.bound.isfinite()).all())


@settings(max_examples=60)
@given(st.integers(1, 9), st.sampled_from((1e-3, 0.1, 1.0, 5.0)), st.integers(0, 99))
def test_a_sum_of_exponentials_moves_no_further_than_it_is_said_to(n, by, seed):
    g = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(3, n, generator=g, dtype=torch.float64)
    moved = by * (2 * torch.rand(8, 3, n, generator=g, dtype=torch.float64) - 1)
    r = running(x, USED)
    r._add("scaled", torch.full_like(x, by), torch.full_like(x, by * by))
    made = r.logsumexp(-1)
    bound = made.errors.reach
    assert bool((((x + moved).logsumexp(-1) - made.value).abs() <= bound).all())


def test_a_sum_in_pieces_errs_more_the_more_often_its_maximum_rises():
    level = torch.zeros(1, 16, dtype=torch.float64)
    rising = 1e-6 * torch.arange(16, dtype=torch.float64)[None]
    errors = [
        running(x, USED).logsumexp(-1).errors.points["function"].bound for x in (level, rising)
    ]
    assert float(errors[1] - errors[0]) == pytest.approx(15 * USED.function_error, rel=1e-3)
    falling = running(rising.flip(1), USED).logsumexp(-1).errors.points["function"].bound
    assert torch.allclose(falling, errors[1])


def test_operands_that_are_joined_are_held_as_they_were():
    x = torch.randn(3, 4, dtype=torch.float64).bfloat16()
    both = torch.cat([stored(x, USED), stored(x, USED)], dim=1)
    assert not both.rounded("operand", USED.points["operand"]).errors.points
    mixed = torch.cat([stored(x, USED), stored(x.float(), USED)], dim=1)
    assert mixed.rounded("operand", USED.points["operand"]).errors.points


def test_where_squared_errors_underflow_only_the_bound_is_said():
    small = torch.full((2, 2), 1e-200, dtype=torch.float64)
    r = running(small, profile("fp64"))
    r._add("x", 1e-14 * small, (1e-14 * small).square())
    made = limits("y", [r], profile("fp64"), FP64, coherent=False)
    assert bool((made.likely >= 1e-14 * small).all())


def test_repeating_elements_repeats_their_errors():
    x, r = tensors(3, 4)
    made = r.repeat_interleave(2, dim=0)
    assert torch.equal(made.value, x.repeat_interleave(2, dim=0))
    bound = USED.points["q"].u * made.value.abs()
    assert torch.allclose(made.errors.points["q"].bound, bound, rtol=1e-12, atol=1e-30)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_sigmoid_in_steps_of_16_bits_is_inside_its_bound_and_outside_that_of_one_rounding(
    name, dtype
):
    x = torch.linspace(-11, 11, 20001).to(dtype)
    one = torch.ones((), dtype=dtype)
    least = one / (one + x.abs().exp())  # every step is stored
    made = torch.where(x < 0, least, one - least).double()

    def far(words: str) -> float:
        used = profile(f"fp32{words}")
        with rounding(analysing(used)):
            want = at("sigmoid", torch.sigmoid(stored(x, used)))
        bound = want.errors.reach + of_dtype(dtype).u * made
        return float(((made - want.value).abs() / bound).max())

    assert far(f"+sigmoid={name}") <= 1 < far(f"+spec={name}")


@pytest.mark.parametrize("name", ["exp", "sigmoid"])
def test_an_exponential_in_base_2_is_inside_its_bound_and_uses_most_of_the_room(name):
    x = torch.linspace(-85, 60 if name == "exp" else 20, 200001).float()
    turned = x if name == "exp" else -x
    log2_e = torch.tensor(1.4426950408889634, dtype=torch.float32)
    made = (turned * log2_e).double().exp2().float()  # the product and the constant round
    made = made if name == "exp" else 1 / (1 + made)
    used = profile("fp32")
    want = getattr(torch, name)(running(x.double(), used))
    far = float(((made.double() - want.value).abs() / want.errors.reach).max())
    assert (0.5 if name == "exp" else 0.85) < far <= 1


def test_of_a_number_near_the_end_of_float32_as_much_is_known_as_of_one():
    used = profile("fp32")
    with rounding(analysing(used)):
        x = running(torch.tensor([1.0, 2.0**127], dtype=torch.float64), used)
        y = (x * 0.1 * 0.7).settled()
    relative = y.errors.reach / y.value
    assert relative[1] == relative[0] > 0


def test_a_slope_beyond_1e30_is_a_slope_where_no_pole_is_near():
    x = running(torch.tensor([1e-19], dtype=torch.float64), profile("fp32")).rounded("score", BF16)
    made = x.reciprocal()
    assert float(made.errors.reach / made.value) == pytest.approx(2.0**-8, rel=0.02)
