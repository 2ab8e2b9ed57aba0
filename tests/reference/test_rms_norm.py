"""Laws of rms_norm."""

import pytest
import torch
from drawing import FLOATS, assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, rms_norm


@pytest.mark.statement("NORM-1")
@given(rows=st.integers(0, 4), D=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_row_has_unit_root_mean_square_before_the_weight(rows, D, seed):
    x = normal(rows, D, seed=seed)
    y = rms_norm(x, torch.ones(D, dtype=x.dtype), eps=1e-300)
    assert_near(y.square().mean(-1), torch.ones(rows, dtype=x.dtype))


@pytest.mark.statement("NORM-1")
@given(exponent=st.integers(-20, 20), seed=st.integers(0, 99))
def test_the_scale_of_a_row_does_not_matter(exponent, seed):
    x, w = normal(3, 7, seed=seed), normal(7, seed=seed + 1)
    assert_near(rms_norm(x * 2.0**exponent, w, eps=1e-300), rms_norm(x, w, eps=1e-300))


@pytest.mark.statement("NORM-2")
def test_a_row_does_not_depend_on_the_others():
    x, w = normal(3, 7), normal(7, seed=1)
    assert torch.equal(rms_norm(x, w, eps=1e-6)[1:2], rms_norm(x[1:2], w, eps=1e-6))


@pytest.mark.statement("NORM-1", "NORM-4")
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_norm_is_rounded_before_the_weight(dtype):
    x, w = normal(5, 33, dtype=dtype), normal(33, seed=1, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    root = (x.to(wide).square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    y = rms_norm(x, w, eps=1e-6)
    assert y.dtype == dtype
    assert torch.equal(y, w * (x.to(wide) * root).to(dtype))


@pytest.mark.statement("NORM-1", "NORM-3")
def test_a_float16_row_of_300s_does_not_overflow():
    x = torch.full((1, 64), 300.0, dtype=torch.float16)
    assert torch.equal(rms_norm(x, torch.ones(64).half(), eps=1e-6), torch.ones_like(x))


@pytest.mark.statement("NORM-5")
def test_a_row_of_zeros_stays_zero():
    x = torch.zeros(2, 4)
    assert torch.equal(rms_norm(x, torch.ones(4), eps=1e-6), x)


@pytest.mark.statement("NORM-8")
@pytest.mark.parametrize(
    ("x", "weight", "eps", "text"),
    [
        (torch.zeros(2, 3), torch.zeros(4), 1e-6, "weight has shape (4,), but must have (3,)"),
        (torch.zeros(2, 3), torch.zeros(3).half(), 1e-6, "weight has dtype torch.float16"),
        (torch.zeros(2, 0), torch.zeros(0), 1e-6, "x has shape (2, 0), but must have (..., D)"),
        (torch.zeros(2, 3).int(), torch.zeros(3), 1e-6, "x has dtype torch.int32"),
        (torch.zeros(2, 3), torch.zeros(3), 0.0, "eps has value 0.0"),
    ],
)
def test_a_wrong_argument_is_named(x, weight, eps, text):
    with pytest.raises(ContractError) as refused:
        rms_norm(x, weight, eps=eps)
    assert text in str(refused.value)
