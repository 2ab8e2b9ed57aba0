"""How far two tensors are apart, and how near a tie a router was."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingspec.golden import Recorder, Trace
from lingspec.golden.compare import compare
from lingspec.golden.measure import CHUNK, difference, exchanged, routing
from lingspec.reference import moe_route

INF, NAN = math.inf, math.nan


def gap(a, b, limit=1e-6):
    return difference("x", torch.as_tensor(a), torch.as_tensor(b), limit)


@given(rows=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_difference_is_that_of_two_matrices_in_numpy(rows, width, seed):
    made = np.random.default_rng(seed)
    a, b = made.normal(size=(2, rows, width)).astype(np.float32).astype(np.float64)
    found = difference("x", torch.from_numpy(a).float(), torch.from_numpy(b).float(), 1e-6)
    size = max(np.linalg.norm(a), np.linalg.norm(b))
    assert found.relative == pytest.approx(np.linalg.norm(a - b) / size, rel=1e-12)
    of_rows = np.linalg.norm(a - b, axis=1)
    assert found.row == (of_rows.argmax(),)
    assert found.row_relative == pytest.approx(of_rows.max() / size * rows**0.5, rel=1e-12)
    assert found.index == np.unravel_index(np.abs(a - b).argmax(), a.shape)
    assert found.values == (a[found.index], b[found.index])


@pytest.mark.parametrize("size", [1e300, 1e-300, 1.0])
def test_no_square_overflows_or_vanishes(size):
    a = torch.tensor([[3.0, 4.0]], dtype=torch.float64) * size
    assert gap(a, a * 1.25).relative == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ([1.0, INF], [1.0, INF], True), ([1.0, -INF], [1.0, INF], False),
        ([1.0, NAN], [1.0, NAN], True), ([1.0, NAN], [1.0, 2.0], False),
        ([1.0, 2.0], [1.0, NAN], False), ([1.0, INF], [1.0, 3e38], False),
        ([1.0, INF], [1.0, NAN], False), ([0.0, 0.0], [0.0, 0.0], True),
        ([0.0, 0.0], [0.0, 1e-30], False), ([0.0], [-0.0], True), ([], [], True),
        ([INF, 1.0], [INF, 2.0], False),
    ],
)  # fmt: skip
def test_what_is_not_finite_is_equal_to_itself_only(a, b, same):
    for x, y in ((a, b), (b, a)):
        found = gap(x, y, 1e-3)
        assert found.beyond != same
        assert (found.relative == 0) == same
        if not same and not all(map(math.isfinite, [*a[1:], *b[1:]])):
            assert found.reason == "NaN or infinity on one side"
            assert found.index == (1,)
    assert gap(a, b).same_nan == (a == [1.0, NAN] and same)


def test_whole_numbers_are_equal_or_not_however_large():
    a = torch.tensor([[2**60, 5], [7, 8]])
    b = a.clone()
    assert not gap(a, b).beyond
    b[0, 0] += 1
    found = gap(a, b)
    assert (found.beyond, found.index, found.off, found.relative) == (True, (0, 0), 1, 0.5)
    assert gap(torch.tensor([True]), torch.tensor([False])).beyond


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_numbers_are_compared_as_the_numbers_they_are(dtype):
    a = torch.tensor([[1.0, 2.0]])
    assert gap(a.to(dtype), a).relative == 0
    assert gap(a.to(dtype), a * 1.5).relative == pytest.approx(1 / 3)


def test_a_scalar_has_no_index():
    found = gap(2.0, 3.0)
    assert (found.beyond, found.index, found.row, found.values) == (True, (), (), (2.0, 3.0))


def test_a_comparison_holds_a_tensor_of_each_trace_and_widens_a_chunk(tmp_path, monkeypatch):
    sizes, alive, most = [], weakref.WeakSet(), []
    double, read = torch.Tensor.double, Trace.__getitem__

    def widened(x):
        sizes.append(x.numel())
        return double(x)

    def counted(trace, name):
        x = read(trace, name).clone()
        alive.add(x)  # a view keeps it alive
        most.append(len(alive))
        return x

    for folder in ("a", "b"):
        with Recorder(tmp_path / folder, precision="float32", shard_mib=1) as made:
            for n in range(12):
                made.add(f"layers.{n}.output", torch.full((1, 300, 500), float(n)))
    monkeypatch.setattr(torch.Tensor, "double", widened)
    monkeypatch.setattr(Trace, "__getitem__", counted)
    assert compare(tmp_path / "a", tmp_path / "b").exit_code == 0
    assert len(most) == 24
    assert max(most) == 2
    assert sum(sizes) == 2 * 12 * 150_000
    assert max(sizes) <= CHUNK


# -- routing -----------------------------------------------------------------------------------


def chosen(logits, bias, groups=1, top_groups=1, top_k=2):
    experts = moe_route(
        logits, bias, groups=groups, top_groups=top_groups, top_k=top_k, scaling=1.0
    )[1]
    return experts[None]


def exchange(logits, biases, groups=1, **how):
    """What is said of two routers' choices, given the logits and the bias of each."""
    ids = tuple(chosen(x, bias, groups, **how) for x, bias in zip(logits, biases, strict=True))
    found = routing("layers.1.topk_idx", *ids)
    both = tuple(x[None] for x in logits)
    return exchanged(found, ids, both, groups=groups) if found.beyond else found


def test_experts_are_sets_and_an_exchange_is_named():
    ids = torch.tensor([[[1, 2], [3, 4], [5, 6]]])
    assert not routing("x", ids, ids.flip(-1)).beyond
    other = torch.tensor([[[2, 1], [3, 7], [5, 6]]])
    found = routing("x", ids, other)
    assert (found.row, found.off, found.off_rows) == ((0, 1), 1, ((0, 1),))
    assert (found.exchange.only_a, found.exchange.only_b) == ((4,), (7,))
    assert routing("x", torch.tensor([[[1, 1]]]), torch.tensor([[[1, 2]]])).beyond
    keep = torch.tensor([True, False, True])
    assert not routing("x", ids, other, keep=keep).beyond


def distances(scores, groups, top_groups, top_k):
    """How far each token is from another choice of experts, or of groups."""
    split = scores.view(len(scores), groups, -1)
    sums = split.topk(2, dim=-1).values.sum(-1)
    order = sums.sort(descending=True)
    taken = torch.zeros_like(sums, dtype=torch.bool).scatter(1, order.indices[:, :top_groups], True)
    best = split.masked_fill(~taken[:, :, None], -INF).flatten(1).sort(descending=True).values
    between = order.values[:, top_groups - 1] - order.values[:, min(top_groups, groups - 1)]
    return best[:, top_k - 1] - best[:, top_k], between


@pytest.mark.parametrize(("groups", "top_groups"), [(1, 1), (4, 2)])
def test_a_tie_that_noise_turns_is_within_the_noise_whatever_the_bias(groups, top_groups):
    made, seen = torch.Generator().manual_seed(3), [0, 0]
    for _ in range(300):
        logits, bias = torch.randn(8, 16, generator=made), 0.1 * torch.randn(16, generator=made)
        noise = 2e-2 * torch.randn(8, 16, generator=made)
        found = exchange((logits, logits + noise), (bias, bias), groups, top_groups=top_groups)
        if found.beyond:
            e, at = found.exchange, found.row[1]
            near = distances(logits.sigmoid() + bias, groups, top_groups, 2)
            moved = (logits + noise).sigmoid() - logits.sigmoid()
            assert e.explained == found.off
            nearest = min(float(x[at]) for x in near[: 1 + e.groups])
            assert nearest <= e.tie <= 4 * float(moved.abs().max()) + 1e-6
            seen[e.groups] += 1
    assert seen[0] > 20
    assert (seen[1] > 20) == (groups > 1)


def test_what_another_bias_does_is_not_taken_for_a_tie():
    logits = torch.tensor([[2.0, 1.0, 0.5, -3.0]])
    bias, other = torch.zeros(4), torch.tensor([0.0, -1.0, 0.0, 0.0])
    toward = torch.tensor([[0.0, 1e-3, 0.0, 0.0]])
    found = exchange((logits, logits + toward), (bias, other))
    e, scores = found.exchange, logits.sigmoid()[0]
    assert (e.only_a, e.only_b, e.tie, e.explained, e.groups) == ((1,), (2,), None, 0, False)
    assert e.margin_a == pytest.approx(float(scores[1] - scores[2]), abs=1e-6)
    assert e.margin_b > e.margin_a


def test_an_exchange_of_groups_is_near_a_tie_of_groups():
    logits = torch.tensor([[1.0, 1.0, 1.0 + 1e-4, 1.0]])
    bias = torch.zeros(4)
    found = exchange((logits, logits - 2e-4 * torch.eye(4)[2]), (bias, bias), groups=2)
    e = found.exchange
    assert {e.only_a, e.only_b} == {(0, 1), (2, 3)}
    assert e.groups
    assert 1e-5 < e.tie < 4 * 1e-4


def test_no_margin_is_said_where_experts_are_out_of_range():
    ids = (torch.tensor([[[0, 9]]]), torch.tensor([[[0, 1]]]))
    found = routing("x", *ids)
    assert exchanged(found, ids, (torch.zeros(1, 1, 4),) * 2) == found
    assert found.exchange.margin_a is None
