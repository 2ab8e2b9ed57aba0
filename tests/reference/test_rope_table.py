"""Laws of rope_table."""

import math

import pytest
import torch
from drawing import assert_near
from hypothesis import given
from hypothesis import strategies as st

from lingspec.reference import ContractError, rope_table
from lingspec.reference.ops.rope_table import frequencies, magnitude

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}


@pytest.mark.statement("ROPE-1", "ROPE-3")
@given(p=st.integers(0, 1 << 20), j=st.integers(0, 3))
def test_an_entry_is_cosine_and_sine_of_position_times_frequency(p, j):
    cos, sin = rope_table(torch.tensor([float(p)]).double(), rotary_dim=8, theta=1e4)
    angle = p * 1e4 ** (-2 * j / 8)
    assert abs(float(cos[0, j]) - math.cos(angle)) < 1e-9
    assert abs(float(sin[0, j]) - math.sin(angle)) < 1e-9


def test_the_table_has_the_shape_of_the_positions():
    cos, sin = rope_table(torch.arange(6).view(2, 3), rotary_dim=4, theta=1e4)
    assert cos.shape == sin.shape == (2, 3, 2)
    assert cos.dtype == torch.float32
    assert torch.equal(cos[0, 0], torch.ones(2))


@pytest.mark.statement("ROPE-2")
@pytest.mark.parametrize("position", [1000, 131071, 1048575])
def test_float32_angles_are_products_of_float32_numbers(position):
    cos, _ = rope_table(torch.tensor([position]), rotary_dim=64, theta=6e6)
    angle = torch.tensor(float(position)) * frequencies(64, 6e6).float()
    assert torch.equal(cos[0], angle.cos())


@pytest.mark.statement("ROPE-4")
def test_yarn_leaves_fast_frequencies_and_divides_slow_ones():
    plain, scaled = frequencies(64, 1e4), frequencies(64, 1e4, YARN)
    turns = plain * 1024 / (2 * math.pi)
    assert_near(scaled[turns > 64], plain[turns > 64])
    assert_near(scaled[turns < 0.5], plain[turns < 0.5] / 4)
    ratio = scaled / plain
    assert bool((ratio.diff() <= 1e-15).all())


@pytest.mark.statement("ROPE-7")
@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"attention_factor": 0.7}, 0.7),
        ({"mscale": 0.707, "mscale_all_dim": 0.707}, 1.0),
        ({"mscale": 2.0, "mscale_all_dim": 1.0}, (0.2 * math.log(4) + 1) / (0.1 * math.log(4) + 1)),
        ({"mscale_all_dim": 1.0}, 0.1 * math.log(4) + 1),
        ({"factor": 1.0}, 1.0),
    ],
)
def test_the_magnitude_of_yarn(given, want):
    assert magnitude({**YARN, **given}) == pytest.approx(want, abs=1e-15)


@pytest.mark.statement("ROPE-15")
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rotary_dim": 5}, "rotary_dim has value 5"),
        ({"rotary_dim": 0}, "rotary_dim has value 0"),
        ({"theta": 1.0}, "theta has value 1.0"),
        ({"scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_type linear"),
        ({"scaling": {"rope_type": "yarn", "factor": 2.0}}, "original_max_position_embeddings"),
        ({"scaling": {**YARN, "beta": 2}}, "scaling has keys beta"),
    ],
)
def test_a_wrong_argument_is_named(given, text):
    with pytest.raises(ContractError) as refused:
        rope_table(torch.arange(3), **{"rotary_dim": 8, "theta": 1e4, **given})
    assert text in str(refused.value)


def turning(times, context=1024, R=64, theta=1e4):
    """The j, not a whole number, whose frequency turns so many times over the context."""
    return R * math.log(context / (times * 2 * math.pi)) / (2 * math.log(theta))


@pytest.mark.statement("ROPE-5")
@pytest.mark.parametrize("truncate", [True, False])
def test_yarn_goes_linearly_from_the_fast_end_to_the_slow_one(truncate):
    low, high = turning(32), turning(1)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    ratio = frequencies(64, 1e4, {**YARN, "truncate": truncate}) / frequencies(64, 1e4)
    for j in range(32):
        share = min(max((j - low) / (high - low), 0), 1)
        assert float(ratio[j]) == pytest.approx(share / 4 + 1 - share, rel=1e-14)


@pytest.mark.statement("ROPE-6")
def test_the_ends_of_yarn_are_32_and_1_turns_where_none_are_given():
    given = frequencies(64, 1e4, {**YARN, "beta_fast": 32, "beta_slow": 1})
    assert torch.equal(frequencies(64, 1e4, YARN), given)
    for other in ({"beta_fast": 64}, {"beta_slow": 4}):
        assert not torch.equal(frequencies(64, 1e4, {**YARN, **other}), given)


@pytest.mark.statement("ROPE-7")
def test_the_magnitude_multiplies_cosines_and_sines():
    p, scaling = torch.arange(9).double(), {**YARN, "attention_factor": 0.75}
    cos, sin = rope_table(p, rotary_dim=64, theta=1e4, scaling=scaling)
    angle = p[:, None] * frequencies(64, 1e4, scaling)
    assert_near(cos, 0.75 * angle.cos())
    assert_near(sin, 0.75 * angle.sin())
