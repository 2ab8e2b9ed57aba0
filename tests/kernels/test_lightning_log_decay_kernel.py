"""Laws of the decays of the kernels' package."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingspec import reference
from lingspec.kernels import lightning_log_decay


@given(
    heads=st.integers(1, 130), layers=st.integers(2, 90), origin=st.integers(0, 1), data=st.data()
)
def test_the_bits_are_those_of_the_reference(heads, layers, origin, data):
    layer = data.draw(st.integers(0, layers - 1))
    got = lightning_log_decay(heads, layer, layers, origin=origin)
    want = reference.lightning_log_decay(heads, layer, layers, origin=origin)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize("heads", [1, 2, 8, 64])
def test_a_power_of_two_of_heads_halves_every_eighth_of_them(heads):
    got = lightning_log_decay(heads, 1, 3)  # a factor of 1 + 1e-5
    want = [-(2 ** (-8 * (h + 1) / heads)) * (1 + 1e-5) for h in range(heads)]
    assert all(math.isclose(a, b, rel_tol=2e-7) for a, b in zip(got.tolist(), want, strict=True))


def test_other_numbers_of_heads_interleave_twice_the_power_below():
    six, four, eight = (lightning_log_decay(n, 2, 9) for n in (6, 4, 8))
    assert torch.equal(six, torch.cat((four, eight[0::2][:2])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 2), "heads has value 0, but must have at least 1"),
        ((4, 0, 1), "layers has value 1, but must have at least 2"),
    ],
)
def test_what_the_op_does_not_allow_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        lightning_log_decay(*arguments)
