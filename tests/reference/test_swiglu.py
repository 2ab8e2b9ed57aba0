"""Laws of swiglu."""

import pytest
import torch
from drawing import FLOATS, assert_near, normal

from lingspec.reference import ContractError, swiglu


@pytest.mark.statement("MOE-2")
def test_the_gate_comes_first():
    x = normal(3, 8)
    gate, up = x[:, :4], x[:, 4:]
    assert_near(swiglu(x), gate / (1 + (-gate).exp()) * up)


@pytest.mark.parametrize("dtype", FLOATS)
def test_it_is_linear_in_the_second_half(dtype):
    x = normal(3, 8, dtype=dtype)
    doubled = torch.cat([x[:, :4], 2 * x[:, 4:]], dim=-1)
    assert torch.equal(swiglu(doubled), 2 * swiglu(x))
    assert swiglu(x).dtype == dtype


@pytest.mark.statement("MOE-6")
def test_large_gates_do_not_overflow():
    x = torch.tensor([[1e4, -1e4, 2.0, 2.0]])
    assert swiglu(x).tolist() == [[2e4, -0.0]]


@pytest.mark.statement("MOE-13")
def test_an_odd_width_is_refused():
    with pytest.raises(ContractError, match=r"gate_up has shape \(2, 5\), but must have"):
        swiglu(torch.zeros(2, 5))


@pytest.mark.statement("MOE-3")
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_activated_half_is_rounded_before_the_product(dtype):
    x = normal(9, 8, dtype=dtype)
    wide = x[:, :4].to(torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(swiglu(x), (wide * torch.sigmoid(wide)).to(dtype) * x[:, 4:])
