"""Laws of gated_group_rms_norm."""

import pytest
import torch
from drawing import FLOATS, assert_near, normal
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, gated_group_rms_norm, rms_norm


@pytest.mark.statement("GATE-1", "GATE-2", "GATE-3")
@given(groups=st.integers(1, 4), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_it_is_the_norm_of_each_group_times_weight_and_gate(groups, width, seed):
    D = groups * width
    x, gate, w = normal(3, D, seed=seed), normal(3, D, seed=seed + 1), normal(D, seed=seed + 2)
    y = gated_group_rms_norm(x, gate, w, groups=groups, eps=1e-6)
    for n in range(groups):
        part = slice(n * width, (n + 1) * width)
        want = rms_norm(x[:, part], w[part], eps=1e-6) * torch.sigmoid(gate[:, part])
        assert_near(y[:, part], want)


@pytest.mark.statement("GATE-6")
def test_an_open_gate_passes_everything_and_a_shut_one_nothing():
    x, w = normal(2, 6), normal(6, seed=1)
    wide = torch.full_like(x, 1e4)
    assert_near(gated_group_rms_norm(x, wide, w, groups=1, eps=1e-6), rms_norm(x, w, eps=1e-6))
    shut = gated_group_rms_norm(x, -wide, w, groups=1, eps=1e-6)
    assert torch.equal(shut, torch.zeros_like(x))


@pytest.mark.statement("GATE-5")
def test_the_gate_takes_no_part_in_the_mean():
    x, gate, w = normal(1, 8), normal(1, 8, seed=1), torch.ones(8, dtype=torch.float64)
    other = gate.clone()
    other[0, 0] += 1
    same, moved = (gated_group_rms_norm(x, g, w, groups=2, eps=1e-6) for g in (gate, other))
    assert torch.equal(same[0, 1:], moved[0, 1:])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_result_has_the_dtype_of_the_input(dtype):
    x, gate, w = (normal(*s, seed=n, dtype=dtype) for n, s in enumerate([(2, 8), (2, 8), (8,)]))
    assert gated_group_rms_norm(x, gate, w, groups=4, eps=1e-6).dtype == dtype


@pytest.mark.statement("GATE-7")
def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ContractError, match="groups has value 3, but must have a divisor of 8"):
        gated_group_rms_norm(torch.zeros(8), torch.zeros(8), torch.zeros(8), groups=3, eps=1e-6)


@pytest.mark.statement("GATE-4")
@pytest.mark.parametrize("dtype", FLOATS)
def test_norm_weight_and_gate_are_rounded_one_after_the_other(dtype):
    x, gate, w = (normal(*s, seed=n, dtype=dtype) for n, s in enumerate([(9, 8), (9, 8), (8,)]))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    parts = x.to(wide).view(9, 2, 4)
    root = (parts.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    weighed = w * (parts * root).to(dtype).view(9, 8)
    opened = torch.sigmoid(gate.to(wide)).to(dtype)
    assert torch.equal(gated_group_rms_norm(x, gate, w, groups=2, eps=1e-6), weighed * opened)
