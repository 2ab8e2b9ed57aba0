"""Plans repeat, reach every kind of case, and shrink; a case's string is the case."""

from __future__ import annotations

import functools
import itertools
import math
import random

import pytest
from judging import ATTENTION

from lingspec.conformance import values
from lingspec.conformance.case import CaseError
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.plan import COUNTS, _picks, draw, plan, shrink
from lingspec.conformance.regimes import REGIMES
from lingspec.conformance.run import laws_for
from lingspec.conformance.wide import WIDE

MORE = 40  # what a large size of a regime may have in addition


@functools.cache
def cases_of(op, cost, count):
    of = contract(op)
    laws = [law for law in laws_for(of) if law != "strides"]
    cases = [draw(of, laws[n % len(laws)], cost, "bf16", 3, n) for n in range(count)]
    if op != "lightning_log_decay":
        cases += [draw(of, "strides", cost, "bf16", 3, n) for n in range(40)]
    return cases


def drawn(op="lightning_attention", cost="native", count=160):
    return cases_of(op, cost, count if op == "lightning_attention" else 80)


@pytest.mark.parametrize("op", OPS)
def test_a_plan_is_the_same_every_time_for_a_seed_and_another_for_another(op):
    of = contract(op)
    once, again, other = (plan(of, laws_for(of), "f32", "native", "smoke", s) for s in (5, 5, 6))
    assert once == again
    assert once != other


def test_a_plan_has_as_many_cases_of_each_law_as_the_profile_says():
    laws = ("authority", "exact")
    cases = plan(ATTENTION, laws, "f32", "native", "ci", 0)
    assert [c.law for c in cases] == ["authority"] * 40 + ["exact"] * 12
    assert COUNTS["ci"]["authority"] == 40


@pytest.mark.parametrize("op", OPS)
def test_the_string_of_a_case_is_the_case(op):
    for case in drawn(op):
        assert contract(op).parse(str(case)) == case


@pytest.mark.parametrize("op", OPS)
def test_a_case_makes_the_same_call_every_time(op):
    for case in drawn(op)[:12]:
        one, two = (contract(op).make(case) for _ in range(2))
        assert one.params == two.params
        assert one.digest == two.digest  # bit for bit: NaN is itself
        for name, x in one.tensors.items():
            assert x.stride() == two.tensors[name].stride()


REACHED = {
    "no token": lambda c: c.lengths is None and c.axes["T"] == 0,
    "one token": lambda c: c.lengths is None and c.axes["T"] == 1,
    "no batch": lambda c: c.axes.get("B") == 0,
    "several rows": lambda c: c.axes.get("B", 0) > 1,
    "an empty sequence": lambda c: c.lengths is not None and 0 in c.lengths and sum(c.lengths),
    "a sequence of one": lambda c: c.lengths is not None and 1 in c.lengths,
    "K != V": lambda c: c.axes["K"] != c.axes["V"],
    "K = V": lambda c: c.axes["K"] == c.axes["V"],
    "one head": lambda c: c.axes["H"] == 1,
    "five heads": lambda c: c.axes["H"] == 5,
    "many tokens": lambda c: c.axes.get("T", 0) > 190,
    "a tail": lambda c: c.axes.get("T", 0) in (65, 129),
    "the model's sizes": lambda c: c.axes["K"] == c.axes["V"] == 128,
    "a state": lambda c: "state" in c.flags,
    "no state": lambda c: "state" not in c.flags,
}


@pytest.mark.parametrize("what", REACHED)
def test_plans_reach(what):
    assert any(REACHED[what](case) for case in drawn())


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("values", values.FAMILIES), ("decay", values.DECAYS), ("layout", values.LAYOUTS),
    ],
)  # fmt: skip
def test_plans_reach_every_family_decay_and_layout(kind, members):
    assert {case.traits[kind] for case in drawn()} == set(members)


@pytest.mark.parametrize("cost", ["native", "interpreted"])
def test_plans_reach_many_heads_sequences_tokens_and_rows(cost):
    cases = drawn(cost=cost, count=120)
    assert any(c.axes["H"] >= 17 for c in cases)
    assert any(len(c.lengths or ()) >= 9 for c in cases)
    assert any(c.axes.get("T", 0) > 300 for c in cases)
    assert any(c.axes.get("B", 0) >= 9 for c in cases)


@pytest.mark.parametrize("cost", ["native", "interpreted"])
def test_the_gradients_of_a_run_are_asked_for_in_every_way(cost):
    cases = plan(ATTENTION, ("gradients",), "bf16", cost, "ci", 3)
    assert {f for c in cases for f in c.flags} == {
        "state", "only-o", "only-final_state", "wrt-q", "wrt-k", "wrt-v", "wrt-initial_state",
    }  # fmt: skip
    packed = [c for c in cases if c.lengths is not None and "state" in c.flags]
    assert any(sum(c.lengths) for c in packed)


@pytest.mark.parametrize("law", ["authority", "packed", "gradients"])
def test_twelve_cases_see_every_kind_of_a_choice(law):
    """A Latin hypercube: each twelfth of the options of a choice once in every block."""
    for seed in range(20):
        picks = [_picks(law, "bf16", seed, n) for n in range(1, 25)]
        firsts = [p(range(12)) for p in picks]
        seconds = [p(range(24)) // 2 for p in picks]
        for chosen in (firsts[:12], firsts[12:], seconds[:12], seconds[12:]):
            assert sorted(chosen) == list(range(12))
        assert firsts[:12] != seconds[:12]


def test_plans_of_decode_reach_padding_and_unlisted_rows():
    cases = drawn("lightning_decode")
    assert {"padding" in c.flags for c in cases} == {True, False}
    assert any(c.axes["P"] > c.axes["B"] for c in cases)
    assert any(c.axes["B"] == 0 for c in cases)


def test_interpreted_candidates_get_smaller_cases():
    for case in drawn(cost="interpreted", count=60):
        tokens = sum(case.lengths) if case.lengths else case.axes["T"] * case.axes["B"]
        most = 1 << (17 if case.law == "scale" else 16)  # with the heads of a model
        assert tokens * case.axes["H"] * case.axes["K"] <= most


@pytest.mark.parametrize("cost", ["native", "interpreted"])
@pytest.mark.parametrize("op", OPS)
def test_every_regime_of_an_op_is_drawn_and_can_be_made(op, cost):
    plans = [
        plan(contract(op), laws_for(contract(op)), "f32", cost, "ci", seed) for seed in range(8)
    ]
    for regime in REGIMES[op]:
        if regime.compiled and cost == "interpreted":
            continue
        inside = [
            c for c in itertools.chain(*plans)
            if all(0 <= c.axes.get(a, -1) - n <= MORE for a, n in regime.axes.items())
            and c.lengths == regime.lengths
        ]  # fmt: skip
        assert len(inside) >= 4
        assert any(regime.axes.items() <= c.axes.items() for c in inside)
        assert contract(op).parse(str(inside[0])) == inside[0]
        contract(op).make(inside[0])


@pytest.mark.parametrize("cost", ["native", "interpreted"])
@pytest.mark.parametrize("op", OPS)
def test_products_of_wide_sizes_are_bounded(op, cost):
    of, wide = contract(op), WIDE[op]
    case = next(c for c in drawn(op, cost) if c.law == "authority" and c.lengths is None)
    g, seen = random.Random(op), []
    for n in range(300):
        made = wide.moved(case, cost, lambda options: options[int(g.random() * len(options))])
        seen.append(made.axes)
        if n < 6:
            of.make(made)
    for letters, most in wide.work.items():
        most_seen = max(math.prod(a[x] for x in letters) for a in seen)
        least = math.prod(x for a in letters if isinstance(x := wide.axes[a][0], int))
        assert most_seen <= max(most[cost == "interpreted"], least)


@pytest.mark.parametrize("cost", ["native", "interpreted"])
@pytest.mark.parametrize("op", OPS)
def test_the_first_of_wide_sizes_takes_all_that_its_range_and_the_work_allow(op, cost):
    of, wide = contract(op), WIDE[op]
    case = next(c for c in drawn(op, cost) if c.law == "authority" and c.lengths is None)
    free = [a for a, sizes in wide.axes.items() if all(isinstance(s, int) for s in sizes)]
    for n, axis in enumerate(free):
        told = iter([n, 0, -1, *[0] * len(wide.axes)])  # first, no grain, largest, then smallest
        made = wide.moved(case, cost, lambda options, told=told: options[next(told)])
        _, high, step = wide.axes[axis]
        rooms = [
            wide._room(axis, w, most[cost == "interpreted"], {})
            for w, most in wide.work.items() if axis in w
        ]  # fmt: skip
        assert made.axes[axis] == min([high, *rooms]) // step * step
        of.make(made)


@pytest.mark.parametrize("op", OPS)
def test_no_drawn_case_of_a_law_leaves_it_nothing_to_compare(op):
    for case in drawn(op):
        tokens = sum(case.lengths) if case.lengths is not None else case.axes.get("T", 9)
        if case.law == "causality":
            assert tokens >= 2
            assert case.axes.get("B", 1) > 0
        if case.law in ("permutation", "sharding"):
            assert any(case.axes.get(a, 0) > 1 for a in contract(op).algebra.independent)
        if case.law == "packed":
            assert case.lengths is not None


def test_a_case_in_a_regime_is_shrunk_to_usual_sizes_where_those_fail_too():
    of, own = contract("rms_norm"), {}
    for index in range(8, 300):
        case = draw(of, "authority", "native", "f32", 0, index)
        own |= {case.axes["D"]: (case, index)}
    larger = max(D for D in own if D <= 8192 + MORE)
    assert larger in (8192 + 8, 8192 + 24, 8192 + MORE)
    case, index = own[larger]
    small = shrink(of, case, "native", 0, index, lambda c: c.axes["D"] > 1)
    assert small.axes["D"] == 8
    assert shrink(of, case, "native", 0, index, lambda c: c.axes["D"] > 8000).axes["D"] == 8192


def test_a_shrunk_case_still_fails_and_is_no_larger():
    tried = []

    def fails(case):
        tried.append(case)
        return case.axes["H"] >= 2 and case.axes.get("T", 0) >= 3

    index = next(n for n in range(50) if fails(draw(ATTENTION, "exact", "native", "f32", 0, n)))
    first = draw(ATTENTION, "exact", "native", "f32", 0, index)
    tried.clear()
    small = shrink(ATTENTION, first, "native", 0, index, fails)
    assert fails(small)
    assert (small.axes["H"], small.axes["T"]) == (2, 3)
    assert small.axes["B"] == 1
    assert len(tried) <= 62


def test_what_does_not_shrink_stays_the_case_it_was():
    case = draw(ATTENTION, "exact", "native", "f32", 0, 7)
    assert shrink(ATTENTION, case, "native", 0, 7, lambda c: c == case) == case


GOOD = "lightning_attention:exact.f32.B1.T5.H2.K8.V8.exactly.integers.dense.1"
BAD = {
    GOOD.replace("dense", "sideways"): "word 'sideways', which lightning_attention does not know",
    GOOD.replace(".f32", ""): "lacks a dtype",
    GOOD.replace(".dense", ""): "lacks layout",
    GOOD.replace(".K8", ""): "lacks axis K",
    GOOD.replace(".K8", ".K0"): "K = 0, but must have 1 to",
    GOOD.replace(".K8", ".K9999999999"): "K = 9999999999, but must have 1 to",
    GOOD.replace(".V8", ".V8.Z3"): "has, but must not have, axis Z",
    GOOD.replace(".V8", ".V8.n2-3"): "has, but must not have, axis B",
    GOOD.replace(".f32", ".f32.bf16"): "two words for dtype",
    GOOD.replace("dense", "dense.far"): "two words for layout",
    GOOD.replace(".H2", ".H2.H3"): "two words for H",
    GOOD.replace(".H2", ".H2.H2"): "word 'H2' twice",
    GOOD[:-1] + "xyz": "must end in its seed",
    GOOD[:-1] + "-1": "must end in its seed",
    "lightning_attention": "lacks decay, values, layout",
    "lightning_attention:": "lacks decay, values, layout",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_case_is_refused_by_its_word(text):
    with pytest.raises(CaseError, match=BAD[text]):
        ATTENTION.parse(text)


def test_decode_refuses_a_pool_smaller_than_the_batch():
    of = contract("lightning_decode")
    case = of.parse("lightning_decode:f32.B4.H1.K8.V8.P3.none.normal.dense.1")
    with pytest.raises(CaseError, match="P = 3, but must have a slot for each of B = 4"):
        of.make(case)
