"""Laws of partial_rope."""

import pytest
import torch
from drawing import FLOATS, assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, partial_rope, rope_table


def tables(first, T, R=4, dtype=torch.float64):
    positions = torch.arange(first, first + T)[None]
    return rope_table(positions.to(dtype), rotary_dim=R, theta=1e4)


@pytest.mark.statement("ROPE-10")
@given(shift=st.integers(0, 1000), seed=st.integers(0, 99))
def test_scores_depend_on_the_distance_alone(shift, seed):
    q, k = normal(1, 5, 2, 6, seed=seed), normal(1, 5, 2, 6, seed=seed + 1)

    def scores(first):
        a, b = (partial_rope(x, *tables(first, 5)) for x in (q, k))
        return torch.einsum("bthk,bshk->bhts", a, b)

    # an angle of 1000 errs by 2^-43, twice in each of 6 products of order 10
    assert_near(scores(shift), scores(0), 1e-10)


@pytest.mark.statement("ROPE-9")
@given(seed=st.integers(0, 99))
def test_lengths_stay_and_dims_behind_the_rotated_ones_pass(seed):
    x = normal(2, 5, 3, 7, seed=seed)
    cos, sin = (t.expand(2, -1, -1) for t in tables(3, 5))
    y = partial_rope(x, cos, sin)
    assert torch.equal(y[..., 4:], x[..., 4:])
    assert_near(y.square().sum(-1), x.square().sum(-1))


@pytest.mark.statement("ROPE-11")
def test_position_0_changes_nothing():
    x = normal(1, 1, 2, 6)
    assert torch.equal(partial_rope(x, *tables(0, 1)), x)


@pytest.mark.statement("ROPE-8")
def test_pairs_are_halves_apart():
    x = torch.tensor([2.0, 3.0, 5.0, 7.0, 11.0], dtype=torch.float64).view(1, 1, 1, 5)
    cos, sin = tables(1, 1)
    (c0, c1), (s0, s1) = cos[0, 0], sin[0, 0]
    want = [2 * c0 - 5 * s0, 3 * c1 - 7 * s1, 5 * c0 + 2 * s0, 7 * c1 + 3 * s1, 11]
    assert_near(partial_rope(x, cos, sin)[0, 0, 0], torch.tensor(want, dtype=torch.float64))


@pytest.mark.statement("ROPE-12")
@pytest.mark.parametrize("dtype", FLOATS[2:])
def test_tables_products_and_sums_are_rounded(dtype):
    x = normal(1, 3, 1, 4, dtype=dtype)
    cos, sin = tables(5, 3, dtype=torch.float32)
    c, s = cos.to(dtype)[:, :, None], sin.to(dtype)[:, :, None]
    a, b = x.chunk(2, -1)
    assert torch.equal(partial_rope(x, cos, sin), torch.cat([a * c - b * s, b * c + a * s], -1))


@pytest.mark.statement("ROPE-15")
@pytest.mark.parametrize(
    ("cos", "text"),
    [
        (torch.zeros(1, 3, 3), r"cos has shape \(1, 3, 3\), but must have \(1, 3, R/2\), R <= 4"),
        (torch.zeros(1, 3, 2).double(), "cos has dtype torch.float64, but must have torch.float32"),
        (torch.zeros(3, 2), r"cos has shape \(3, 2\)"),
    ],
)
def test_a_wrong_table_is_named(cos, text):
    with pytest.raises(ContractError, match=text):
        partial_rope(torch.zeros(1, 3, 1, 4), cos, torch.zeros(1, 3, 2))
