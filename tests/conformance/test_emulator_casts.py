"""Every cast to and from bfloat16, against torch, bit for bit; any NaN equals any NaN."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from lingspec.conformance import emulator  # noqa: E402, after the skip

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
TYPES = {
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.int8: tl.int8,
    torch.uint8: tl.uint8,
    torch.int16: tl.int16,
    torch.int32: tl.int32,
    torch.int64: tl.int64,
}
FLOATS = [torch.float16, torch.float32, torch.float64]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]


@pytest.fixture(autouse=True, scope="module")
def _emulated():
    with emulator.emulated():
        yield


@triton.jit
def cast_kernel(x, out, n, TO: tl.constexpr, HOW: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < n)
    if HOW == "bitcast":
        cast = value.to(TO, bitcast=True)
    elif HOW == "default":
        cast = value.to(TO)
    else:
        cast = value.to(TO, fp_downcast_rounding=HOW)
    tl.store(out + at, cast, mask=at < n)


@triton.jit
def copy_kernel(x, out, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


def cast(x, dtype, how="default"):
    out = torch.zeros(x.shape, dtype=dtype)
    block = triton.next_power_of_2(x.numel())
    cast_kernel[(1,)](x, out, x.numel(), TYPES[dtype], how, block)
    return out


def every_16_bits(dtype):
    return torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)


def hard_float32():
    """Every upper half with the lower halves around a tie, and NaNs of all payloads."""
    upper = torch.arange(2**16, dtype=torch.int64)[:, None] << 16
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    return (upper + lower).to(torch.int32).view(torch.float32).flatten()


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    bits = BITS[actual.element_size()]
    same = actual.view(bits) == expected.view(bits)
    if actual.dtype.is_floating_point:
        same |= actual.isnan() & expected.isnan()
    wrong = (~same).nonzero().flatten()
    assert wrong.numel() == 0, (wrong[:5], actual[wrong[:5]], expected[wrong[:5]])


def nearest_bf16(x: Fraction) -> float:
    """Return the bfloat16 nearest to x, ties to even, by trying every step of its exponent."""
    if x == 0:
        return 0.0
    exponent = -133
    while abs(x) >= Fraction(2) ** (exponent + 8):
        exponent += 1
    step = Fraction(2) ** exponent
    return float(round(x / step) * step)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_bf16_widens_as_in_torch(dtype):
    x = every_16_bits(torch.bfloat16)
    assert_same_bits(cast(x, dtype), x.to(dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_bf16_inside_an_integer_s_range_truncates_to_it(dtype):
    x = every_16_bits(torch.bfloat16)
    limits = torch.iinfo(dtype)
    x = x[(x.double() > limits.min - 1.0) & (x.double() < float(limits.max))]
    assert_same_bits(cast(x, dtype), x.to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, *FLOATS])
def test_every_bf16_comes_back_from_a_wider_float(dtype):
    x = every_16_bits(torch.bfloat16)
    wide = x if dtype == torch.float16 else x.to(dtype)
    assert_same_bits(cast(wide, torch.bfloat16), x)


def test_every_float16_goes_to_bf16_as_in_torch():
    x = every_16_bits(torch.float16)
    assert_same_bits(cast(x, torch.bfloat16), x.to(torch.bfloat16))


def test_float32_goes_to_bf16_to_nearest_even_subnormals_and_infinities_included():
    x = hard_float32()
    assert_same_bits(cast(x, torch.bfloat16), x.to(torch.bfloat16))


def test_a_store_into_bf16_memory_rounds_as_a_cast():
    x = hard_float32()
    out = torch.zeros(x.shape, dtype=torch.bfloat16)
    copy_kernel[(1,)](x, out, x.numel(), triton.next_power_of_2(x.numel()))
    assert_same_bits(out, x.to(torch.bfloat16))


def test_a_load_and_a_store_of_bf16_change_no_bit():
    x = every_16_bits(torch.bfloat16)
    out = torch.zeros_like(x)
    copy_kernel[(1,)](x, out, x.numel(), x.numel())
    assert torch.equal(out.view(torch.int16), x.view(torch.int16))


def test_float32_goes_to_float16_to_nearest_even():
    x = hard_float32()
    assert_same_bits(cast(x, torch.float16), x.to(torch.float16))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16])
def test_every_small_integer_goes_to_bf16_as_in_torch(dtype):
    x = torch.arange(2**16, dtype=torch.int32).to(dtype)
    assert_same_bits(cast(x, torch.bfloat16), x.to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@settings(deadline=None)
@given(value=st.integers(-(2**63), 2**63 - 1), shift=st.integers(0, 63))
def test_integers_go_to_bf16_with_one_rounding(dtype, value, shift):
    limit = 8 * dtype.itemsize - 1
    x = torch.tensor([max(-(2**limit), min(value >> shift, 2**limit - 1))], dtype=dtype)
    assert cast(x, torch.bfloat16).item() == nearest_bf16(Fraction(x.item()))


@pytest.mark.parametrize("power", [24, 40, 60])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_just_above_a_tie_rounds_away(power, sign):
    x = torch.tensor([sign * (2**power + 2 ** (power - 8) + 1)])
    assert cast(x, torch.bfloat16).item() == sign * (2**power + 2 ** (power - 7))


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_float_outside_an_integer_s_range_is_clamped(dtype):
    x = torch.tensor([float("inf"), -float("inf"), float("nan")]).to(dtype)
    assert cast(x, torch.int32).tolist() == [2**31 - 1, -(2**31), 0]
    assert cast(x, torch.int64).tolist() == [2**63 - 1, -(2**63), -(2**63)]
    assert cast(x, torch.int16).tolist() == [2**15 - 1, -(2**15), 0]
    assert cast(x, torch.uint8).tolist() == [255, 0, 0]


@settings(deadline=None)
@given(bits=st.integers(0, 0x7F7E), part=st.integers(-(2**36), 2**36), negative=st.booleans())
def test_float64_goes_to_bf16_with_one_rounding(bits, part, negative):
    low, high = torch.tensor([bits, bits + 1], dtype=torch.int16).view(torch.bfloat16).double()
    x = (low + high) / 2 * (1 + part * 2.0**-52)
    x = -x if negative else x
    actual = cast(x.reshape(1), torch.bfloat16)
    assert actual.item() == nearest_bf16(Fraction(x.item()))


def test_a_float64_just_above_a_tie_rounds_up():
    x = torch.tensor([1 + 2.0**-8 + 2.0**-40], dtype=torch.float64)
    assert cast(x, torch.bfloat16).item() == 1 + 2.0**-7
    assert x.to(torch.bfloat16).item() == 1.0, "torch rounds twice, through float32"


@pytest.mark.parametrize("dtype", [torch.int16, torch.float16])
def test_bitcasts_keep_every_bit(dtype):
    x = every_16_bits(torch.bfloat16)
    there = cast(x, dtype, "bitcast")
    assert torch.equal(there.view(torch.int16), x.view(torch.int16))
    back = cast(there, torch.bfloat16, "bitcast")
    assert torch.equal(back.view(torch.int16), x.view(torch.int16))


def test_rounding_to_nearest_can_be_asked_for():
    x = hard_float32()
    assert_same_bits(cast(x, torch.bfloat16, "rtne"), x.to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_toward_zero_never_grows_and_leaves_no_step_between(dtype):
    x = hard_float32()
    x = x[x.isfinite()]
    cut = cast(x, dtype, "rtz")
    assert (cut.float().abs() <= x.abs()).all()
    away = (cut.view(torch.int16) + 1).view(dtype).float()
    assert ((away.abs() > x.abs()) | away.isinf() | away.isnan()).all()
