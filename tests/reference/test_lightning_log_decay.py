"""Laws of lightning_log_decay."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, lightning_log_decay


@pytest.mark.statement("DECAY-1")
def test_the_slopes_of_64_heads_are_eighth_powers_of_a_half():
    got = lightning_log_decay(64, 0, 80, origin=0)
    factor = torch.tensor(1 + 1e-5, dtype=torch.float32)
    want = [-(torch.tensor(2 ** (-(h + 1) / 8), dtype=torch.float32) * factor) for h in range(64)]
    ulp = torch.finfo(torch.float32).eps * torch.stack(want).abs()
    assert bool(((got - torch.stack(want)).abs() <= ulp).all())  # products of powers: 1 ulp


@pytest.mark.statement("DECAY-3", "DECAY-4", "DECAY-5")
@pytest.mark.parametrize(
    ("origin", "first", "last"), [(0, 1.00001, 0.00001), (1, 1.01267, 0.01267)]
)
def test_the_factor_falls_from_the_first_layer_to_the_last(origin, first, last):
    slope = 2.0**-8  # head 63 of 64
    assert lightning_log_decay(64, 0, 80, origin=origin)[63] == pytest.approx(-slope * first, 1e-5)
    assert lightning_log_decay(64, 79, 80, origin=origin)[63] == pytest.approx(-slope * last, 1e-3)


@pytest.mark.statement("DECAY-2")
def test_six_heads_take_the_slopes_of_four_and_every_second_one_of_eight():
    got = lightning_log_decay(6, 0, 2, origin=0)
    want = [-(2.0**-e) for e in (2, 4, 6, 8, 1, 3)]
    assert got.tolist() == pytest.approx(want, rel=2e-5)


@pytest.mark.statement("DECAY-7")
@given(heads=st.integers(1, 130), layers=st.integers(2, 90), data=st.data())
def test_every_head_forgets(heads, layers, data):
    layer = data.draw(st.integers(0, layers - 1))
    for origin in (0, 1):
        got = lightning_log_decay(heads, layer, layers, origin=origin)
        assert got.shape == (heads,)
        assert got.dtype == torch.float32
        assert bool((got < 0).all())
        assert math.isfinite(got.min())


@pytest.mark.statement("DECAY-9")
@pytest.mark.parametrize(
    ("call", "text"),
    [
        ((0, 0, 2), "heads has value 0, but must have an integer >= 1"),
        ((4, 2, 2), "layer has value 2, but must have 0 <= layer < 2, as layers says"),
        ((4, 0, 1), "layers has value 1, but must have an integer >= 2"),
    ],
)
def test_a_number_out_of_range_is_named(call, text):
    with pytest.raises(ContractError) as refused:
        lightning_log_decay(*call)
    assert str(refused.value) == text


@pytest.mark.statement("DECAY-9")
def test_an_origin_is_0_or_1():
    with pytest.raises(ContractError, match="origin has value 2, but must have 0 or 1"):
        lightning_log_decay(4, 0, 2, origin=2)


@pytest.mark.statement("DECAY-6")
@pytest.mark.parametrize("origin", [0, 1])
def test_slope_factor_and_product_are_rounded_to_float32(origin):
    for layer in range(80):
        factor = np.float32(1 - (layer - origin) / 79 + 1e-5)
        first = 2.0 ** (-8 / 64)
        want = [-(np.float32(first * first**h) * factor) for h in range(64)]
        got = lightning_log_decay(64, layer, 80, origin=origin)
        assert got.tolist() == [float(x) for x in want]


@pytest.mark.statement("DECAY-8")
def test_a_rank_s_own_number_of_heads_gives_other_slopes():
    whole, half = lightning_log_decay(8, 3, 9), lightning_log_decay(4, 3, 9)
    assert not torch.allclose(whole[:4], half)
    assert not torch.allclose(whole[4:], half)
