"""Laws of moe_route."""

import pytest
import torch
from drawing import assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, moe_route

CALL = {"groups": 4, "top_groups": 2, "top_k": 3, "scaling": 2.5}


def route(logits, bias, **changes):
    return moe_route(logits, bias, **{**CALL, **changes})


def slowly(logits, bias, *, groups, top_groups, top_k, scaling):
    """One token, by sorting, without tensors."""
    p = [1 / (1 + torch.exp(-x).item()) for x in logits]
    b = [x + float(y) for x, y in zip(p, bias, strict=True)]
    size = len(b) // groups
    of = [sorted(b[g * size : (g + 1) * size], reverse=True) for g in range(groups)]
    best = sorted(range(groups), key=lambda g: -(of[g][0] + of[g][1]))[:top_groups]
    allowed = [e for e in range(len(b)) if e // size in best]
    chosen = sorted(allowed, key=lambda e: -b[e])[:top_k]
    total = sum(p[e] for e in chosen) + 1e-20 if top_k > 1 else 1.0
    return {e: scaling * p[e] / total for e in chosen}


@pytest.mark.statement("ROUTE-2", "ROUTE-3", "ROUTE-5", "ROUTE-6", "ROUTE-7")
@given(seed=st.integers(0, 999), top_k=st.integers(1, 6), spread=st.sampled_from((0.0, 1.0, 12.0)))
def test_it_is_what_sorting_gives(seed, top_k, spread):
    logits, bias = normal(4, 12, seed=seed), spread * normal(12, seed=seed + 1)
    weights, experts = route(logits, bias, top_k=top_k)
    for t in range(4):
        want = slowly(logits[t], bias, **{**CALL, "top_k": top_k})
        assert set(experts[t].tolist()) == set(want)
        got = torch.tensor([want[e] for e in experts[t].tolist()], dtype=torch.float64)
        assert_near(weights[t], got)


@pytest.mark.statement("ROUTE-11")
@given(seed=st.integers(0, 99))
def test_a_bias_for_all_changes_nothing_and_takes_no_part_in_the_weights(seed):
    logits, bias = normal(4, 12, seed=seed), normal(12, seed=seed + 1)
    weights, experts = route(logits, bias)
    moved, again = route(logits, bias + 3)
    for t in range(4):
        assert set(experts[t].tolist()) == set(again[t].tolist())
    assert_near(weights.sum(-1), torch.full((4,), 2.5, dtype=torch.float64))
    assert_near(moved.sum(-1), torch.full((4,), 2.5, dtype=torch.float64))


@pytest.mark.statement("ROUTE-4")
@pytest.mark.parametrize("top_k", [1, 3, 6])
def test_experts_with_negative_scores_are_chosen_rather_than_those_of_other_groups(top_k):
    logits, bias = normal(5, 12), torch.full((12,), -9.0, dtype=torch.float64)
    _, experts = route(logits, bias, top_k=top_k)
    for t in range(5):
        assert set(experts[t].tolist()) == set(slowly(logits[t], bias, **{**CALL, "top_k": top_k}))


@pytest.mark.statement("ROUTE-8")
def test_a_single_expert_is_not_normalised():
    logits = normal(5, 12)
    weights, experts = route(logits, torch.zeros(12, dtype=torch.float64), top_k=1)
    assert_near(weights, 2.5 * torch.sigmoid(logits.gather(1, experts)))


@pytest.mark.statement("ROUTE-10")
def test_a_row_of_nan_disturbs_no_other_and_stays_in_range():
    logits, bias = normal(3, 12).float(), torch.zeros(12)
    before = route(logits, bias)
    logits[1] = float("nan")
    weights, experts = route(logits, bias)
    assert bool(((experts >= 0) & (experts < 12)).all())
    for now, was in ((weights, before[0]), (experts, before[1])):
        assert torch.equal(now[[0, 2]], was[[0, 2]])


@pytest.mark.statement("ROUTE-12")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"groups": 5}, "groups has value 5"),
        ({"groups": 12}, "a divisor of 12 that leaves 2 experts"),
        ({"top_groups": 5}, "top_groups has value 5, but must have an integer from 1 to 4"),
        ({"top_k": 7}, "top_k has value 7, but must have an integer from 1 to 6"),
    ],
)
def test_a_wrong_number_is_named(changes, text):
    with pytest.raises(ContractError, match=text):
        route(torch.zeros(2, 12), torch.zeros(12), **changes)


@pytest.mark.statement("ROUTE-6")
@given(seed=st.integers(0, 99))
def test_a_bias_that_changes_no_choice_changes_no_weight(seed):
    logits, bias = normal(1, 12, seed=seed), normal(12, seed=seed + 1)
    weights, experts = route(logits, bias)
    higher = bias.clone()
    higher[experts[0]] += torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    again, same = route(logits, higher)
    assert set(same[0].tolist()) == set(experts[0].tolist())
    by_expert = [dict(zip(e[0].tolist(), w[0].tolist(), strict=True))
                 for e, w in ((experts, weights), (same, again))]  # fmt: skip
    assert by_expert[0] == pytest.approx(by_expert[1], abs=1e-14)


@pytest.mark.statement("ROUTE-9")
def test_scores_of_0_give_weights_of_0():
    weights, _ = route(torch.full((2, 12), -200.0), torch.zeros(12))
    assert torch.equal(weights, torch.zeros(2, 3))
