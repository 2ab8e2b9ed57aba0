"""What a summary keeps, and how well two of them tell tensors apart."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lingspec.golden.summary import SPREAD, summarize


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_sketch_is_linear():
    x, y = drawn(3, 40, seed=1), drawn(3, 40, seed=2)
    both, a, b = (summarize(t).sketch.double() for t in (2 * x - y, x, y))
    rounded = 2.0**-24 * (both.abs() + 2 * a.abs() + b.abs())  # each sketch, to float32
    assert bool(((both - (2 * a - b)).abs() <= rounded + 1e-12).all())  # and sums in float64


def test_the_distance_is_told_within_its_standard_deviation():
    x, ratios = drawn(20, 512), []
    for seed in range(40):
        e = 1e-3 * drawn(20, 512, seed=seed + 1)
        ratios.append(summarize(x).apart(summarize(x + e)) / float(e.norm() / x.norm()))
    spread = float(torch.tensor(ratios).sub(1).square().mean().sqrt())
    assert 0.6 * SPREAD < spread < 1.5 * SPREAD  # 40 draws: 11 % of the spread, as a deviation


@given(seed=st.integers(0, 999), first=st.integers(0, 39), second=st.integers(0, 39))
def test_two_elements_exchanged_are_seen(seed, first, second):
    x = drawn(2, 20, seed=seed).flatten()
    y = x.clone()
    y[first], y[second] = x[second], x[first]
    apart = summarize(x).apart(summarize(y))
    moved = abs(float(x[first] - x[second]))
    assert (apart > 0) == (moved > 0)


def test_the_row_that_differs_is_named():
    x = drawn(5, 7, 64)
    y = x.clone()
    y[3, 2] *= 1.01
    row, far = summarize(x).worst_row(summarize(y))
    assert row == 3 * 7 + 2
    assert abs(far - 0.01) < 1e-6


def test_of_a_state_a_row_is_a_head():
    x = drawn(2, 3, 16, 16)
    y = x.clone()
    y[1, 1] *= 1.01
    assert len(summarize(x).rows) == 6
    row, far = summarize(x).worst_row(summarize(y))
    assert row == 4
    assert abs(far - 0.01) < 1e-6


def test_the_largest_values_come_with_their_places():
    x = torch.zeros(4, 9)
    x[2, 3], x[0, 8] = -5.0, 4.0
    kept = summarize(x)
    assert kept.places[:2].tolist() == [21, 8]
    assert kept.values[:2].tolist() == [-5.0, 4.0]


def test_nothing_and_a_single_number_have_summaries():
    for shape in ((0, 8), (3, 0), (), (1,)):
        kept = summarize(torch.ones(shape))
        assert kept.shape == shape
        assert kept.apart(kept) == 0
