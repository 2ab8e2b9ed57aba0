"""Arithmetic, comparisons and products of tiles, against exact sums rounded once."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from lingspec.conformance import emulator  # noqa: E402, after the skip

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True, scope="module")
def _emulated():
    with emulator.emulated():
        yield


@triton.jit
def binary_kernel(x, y, out, n, OP: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    a = tl.load(x + at, mask=at < n, other=0.0)
    b = tl.load(y + at, mask=at < n, other=0.0)
    if OP == "+":
        c = a + b
    elif OP == "-":
        c = a - b
    elif OP == "*":
        c = a * b
    elif OP == "/":
        c = a / b
    elif OP == "max":
        c = tl.maximum(a, b)
    elif OP == "min":
        c = tl.minimum(a, b)
    elif OP == "max, NaN wins":
        c = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    elif OP == "fma":
        c = tl.fma(a, b, b)
    elif OP == "where":
        c = tl.where(a > b, a, b)
    elif OP == "-x":
        c = -a
    elif OP == "abs":
        c = tl.abs(a)
    tl.store(out + at, c, mask=at < n)


@triton.jit
def compare_kernel(x, y, out, n, OP: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    a = tl.load(x + at, mask=at < n)
    b = tl.load(y + at, mask=at < n)
    if OP == "<":
        c = a < b
    elif OP == "<=":
        c = a <= b
    elif OP == "==":
        c = a == b
    else:
        c = a != b
    tl.store(out + at, c.to(tl.float32), mask=at < n)


@triton.jit
def scalar_kernel(x, out, same, factor, count, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    a = tl.load(x + at)
    tl.store(out + at, (a * factor).dtype == tl.float32)
    tl.store(out + BLOCK + at, (a * count).dtype == tl.float32)
    tl.store(same + at, a * 2.5 + 1)
    tl.static_assert((a * 2.5 + 1).dtype == a.dtype)


@triton.jit
def math_kernel(x, out, F: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    a = tl.load(x + at)
    if F == "exp":
        b = tl.exp(a)
    elif F == "log":
        b = tl.log(a)
    elif F == "sqrt":
        b = tl.sqrt(a)
    elif F == "sin":
        b = tl.sin(a)
    elif F == "floor":
        b = tl.floor(a)
    else:
        b = tl.rsqrt(a)
    tl.store(out + at, b)


def binary(op, x, y):
    out = torch.empty_like(x)
    binary_kernel[(1,)](x, y, out, x.numel(), op, triton.next_power_of_2(x.numel()))
    return out


def values(dtype, seed, count=4096):
    """Random bit patterns: every exponent, subnormals, infinities and NaN."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(-(2**15), 2**15, (count,), generator=generator)
    return bits.to(torch.int16).view(dtype)


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    assert same.all(), (actual[~same][:5], expected[~same][:5])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("op", ["+", "-"])
@settings(deadline=None)
@given(seed=st.integers(0, 2**31))
def test_sums_are_rounded_once(dtype, op, seed):
    x, y = values(dtype, seed), values(dtype, seed + 1)
    assert_same(binary(op, x, y), x + y if op == "+" else x - y)


@settings(deadline=None)
@given(x=st.integers(0, 2**16 - 1), y=st.integers(0, 2**16 - 1))
def test_a_bf16_product_is_rounded_once_even_where_float32_is_subnormal(x, y):
    a, b = (torch.tensor([v - 2**15], dtype=torch.int16).view(torch.bfloat16) for v in (x, y))
    actual = binary("*", a, b).item()
    if math.isfinite(a.item()) and math.isfinite(b.item()) and math.isfinite(actual):
        exact = Fraction(a.item()) * Fraction(b.item())
        bits = binary("*", a, b).view(torch.int16)
        around = torch.cat([bits - 1, bits, bits + 1]).view(torch.bfloat16).tolist()
        assert all(
            abs(Fraction(v) - exact) >= abs(Fraction(actual) - exact)
            for v in around
            if math.isfinite(v)
        )


def test_a_product_just_above_half_the_least_subnormal_is_not_lost():
    tiny = torch.tensor([2.0**-67 * (1 + 2.0**-7)]).bfloat16()
    assert binary("*", tiny, tiny).item() == 2.0**-133
    assert (tiny * tiny).item() == 2.0**-133


@pytest.mark.parametrize("dtype", HALVES)
def test_products_and_negations_agree_with_torch(dtype):
    x, y = values(dtype, 1), values(dtype, 2)
    expected = (x.double() * y.double()).float().to(dtype)
    ordinary = (x.double() * y.double()).abs() > 2.0**-126
    assert_same(binary("*", x, y)[ordinary], expected[ordinary])
    assert_same(binary("-x", x, y), -x)
    assert_same(binary("abs", x, y), x.abs())


@pytest.mark.parametrize("dtype", HALVES)
def test_a_quotient_is_taken_in_float32(dtype):
    x, y = values(dtype, 3), values(dtype, 4)
    assert_same(binary("/", x, y), (x.float() / y.float()).to(dtype))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_max_and_min_ignore_nan_unless_asked(dtype):
    x, y = (values(d, s).to(dtype) for d, s in ((torch.bfloat16, 5), (torch.bfloat16, 6)))
    either = torch.where(x.isnan(), y, x)
    one = x.isnan() | y.isnan()
    assert_same(binary("max", x, y), torch.where(one, either, torch.maximum(x, y)))
    assert_same(binary("min", x, y), torch.where(one, either, torch.minimum(x, y)))
    assert_same(binary("max, NaN wins", x, y), torch.maximum(x, y))


@pytest.mark.parametrize("op", ["<", "<=", "==", "!="])
def test_bf16_comparisons_are_of_numbers_not_of_bits(op):
    x, y = values(torch.bfloat16, 7), values(torch.bfloat16, 8)
    y = torch.where(torch.arange(4096) % 3 == 0, x, y)
    out = torch.empty(4096)
    compare_kernel[(1,)](x, y, out, 4096, op, 4096)
    compare = {"<": torch.lt, "<=": torch.le, "==": torch.eq, "!=": torch.ne}[op]
    assert torch.equal(out, compare(x, y).float())


def test_where_keeps_bits():
    x, y = values(torch.bfloat16, 9), values(torch.bfloat16, 10)
    assert_same(binary("where", x, y), torch.where(x > y, x, y))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@settings(deadline=None)
@given(seed=st.integers(0, 2**31))
def test_fma_is_rounded_once(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(16, generator=generator).to(dtype) for _ in range(2))
    y[::2] = -y[::2]
    actual = binary("fma", x, y)
    for a, b, c in zip(x.tolist(), y.tolist(), actual, strict=True):
        exact = Fraction(a) * Fraction(b) + Fraction(b)
        bits = c.view(torch.int32 if dtype == torch.float32 else torch.int16)
        around = torch.stack([bits - 1, bits + 1]).view(dtype).tolist()
        steps = [Fraction(v) for v in around if math.isfinite(v)]
        assert all(abs(v - exact) >= abs(Fraction(c.item()) - exact) for v in steps)


def test_a_python_number_takes_the_tile_s_type_and_an_argument_its_own():
    x = torch.arange(16).bfloat16()
    out, same = torch.zeros(32, dtype=torch.int32), torch.empty(16, dtype=torch.bfloat16)
    scalar_kernel[(1,)](x, out, same, 0.1, 3, 16)
    assert out.tolist() == [1] * 32, "bf16 * float32 scalar and bf16 * int32 scalar are float32"
    assert torch.equal(same, x * 2.5 + 1)


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "sin", "floor", "rsqrt"])
@pytest.mark.parametrize("dtype", HALVES)
def test_functions_that_the_compiler_refuses_on_half_precision_are_refused(name, dtype):
    x = torch.ones(16, dtype=dtype)
    short = "bf16" if dtype == torch.bfloat16 else "fp16"
    with pytest.raises(Exception, match=rf"math_kernel.*Expected dtype.*{short}"):
        math_kernel[(1,)](x, torch.empty_like(x), name, 16)


@pytest.mark.parametrize("dtype", HALVES)
def test_functions_of_float32_still_work(dtype):
    x = torch.rand(16) + 0.5
    out = torch.empty(16, dtype=dtype)
    math_kernel[(1,)](x, out, "exp", 16)
    assert torch.equal(out, x.exp().to(dtype))
