"""Laws of interleaved_rope."""

import pytest
import torch
from drawing import assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, interleaved_rope, partial_rope, rope_table


def tables(first, T, R=6):
    return rope_table(torch.arange(first, first + T)[None].double(), rotary_dim=R, theta=1e4)


@pytest.mark.statement("ROPE-13", "ROPE-14")
@given(seed=st.integers(0, 99), first=st.integers(0, 99))
def test_it_is_multiplication_of_neighbours_by_a_complex_number(seed, first):
    x = normal(1, 4, 2, 6, seed=seed)
    cos, sin = tables(first, 4)
    turned = torch.view_as_complex(x.view(1, 4, 2, 3, 2)) * torch.complex(cos, sin)[:, :, None]
    assert_near(interleaved_rope(x, cos, sin), torch.cat([turned.real, turned.imag], dim=-1))


@pytest.mark.statement("ROPE-14")
def test_it_is_the_rotation_of_halves_behind_a_permutation():
    x = normal(1, 4, 2, 6)
    apart = torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)
    assert torch.equal(interleaved_rope(x, *tables(2, 4)), partial_rope(apart, *tables(2, 4)))


@pytest.mark.statement("ROPE-14")
def test_position_0_leaves_the_dims_de_interleaved():
    x = torch.arange(6.0).view(1, 1, 1, 6).double()
    y = interleaved_rope(x, *tables(0, 1))
    assert y.flatten().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.statement("ROPE-13")
def test_all_dims_are_rotated():
    with pytest.raises(ContractError, match=r"x has shape \(1, 3, 1, 8\), but must have"):
        interleaved_rope(torch.zeros(1, 3, 1, 8), torch.zeros(1, 3, 3), torch.zeros(1, 3, 3))
