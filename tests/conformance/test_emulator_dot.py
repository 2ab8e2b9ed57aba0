"""Products of tiles: what the operands lose, and how they are summed."""

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from lingspec.conformance import emulator  # noqa: E402, after the skip


@pytest.fixture(autouse=True, scope="module")
def _emulated():
    with emulator.emulated():
        yield


@triton.jit
def dot_kernel(
    a,
    b,
    acc,
    out,
    OUT: tl.constexpr,
    PRECISION: tl.constexpr,
    ALLOW: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
):
    m, k, n = tl.arange(0, M), tl.arange(0, K), tl.arange(0, N)
    x = tl.load(a + m[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + n[None, :])
    start = tl.load(acc + m[:, None] * N + n[None, :])
    if PRECISION is not None:
        z = tl.dot(x, y, start, input_precision=PRECISION, out_dtype=OUT)
    elif ALLOW is not None:
        z = tl.dot(x, y, start, allow_tf32=ALLOW, out_dtype=OUT)
    else:
        z = tl.dot(x, y, start, out_dtype=OUT)
    tl.store(out + m[:, None] * N + n[None, :], z)


@triton.jit
def bare_kernel(a, out, N: tl.constexpr):
    n = tl.arange(0, N)
    x = tl.load(a + n[:, None] * N + n[None, :])
    tl.store(out + n[:, None] * N + n[None, :], tl.dot(x, tl.trans(x)))


@triton.jit
def batched_kernel(a, out, B: tl.constexpr, N: tl.constexpr):
    i, n = tl.arange(0, B), tl.arange(0, N)
    at = i[:, None, None] * N * N + n[None, :, None] * N + n[None, None, :]
    x = tl.load(a + at)
    tl.store(out + at, tl.dot(x, x))


def dot(a, b, *, precision=None, allow=None, out=torch.float32, acc=None):
    (m, k), n = a.shape, b.shape[1]
    acc = torch.zeros(m, n, dtype=out) if acc is None else acc
    result = torch.empty(m, n, dtype=out)
    dtype = {torch.float32: tl.float32, torch.float16: tl.float16, torch.float64: tl.float64}
    dot_kernel[(1,)](a, b, acc, result, dtype.get(out, tl.int32), precision, allow, m, k, n)
    return result


def operands(dtype, m=32, k=64, n=16):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(s, generator=generator).to(dtype) for s in ((m, k), (k, n)))


def truncated(x, bits):
    mask = -(1 << bits)
    return (x.view(torch.int32) & mask).view(torch.float32)


def assert_float32_sum(actual, a, b, acc=0.0):
    """Bound by K + 1 roundings of the sum of absolute products."""
    exact = a.double() @ b.double() + acc
    limit = (a.double().abs() @ b.double().abs() + abs(acc)) * (a.shape[1] + 1) * 2.0**-24
    assert ((actual.double() - exact).abs() <= limit).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_products_are_exact_and_summed_in_float32(dtype):
    a, b = operands(dtype)
    assert_float32_sum(dot(a, b), a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_accumulator_is_added(dtype):
    a, b = operands(dtype)
    acc = torch.full((32, 16), 100.0)
    assert_float32_sum(dot(a, b, acc=acc, precision="ieee"), a, b, acc=100.0)


def test_a_float32_product_loses_the_last_13_bits_of_each_operand():
    a, b = operands(torch.float32)
    assert_float32_sum(dot(a, b), truncated(a, 13), truncated(b, 13))
    assert_float32_sum(dot(a, b, precision="tf32"), truncated(a, 13), truncated(b, 13))
    assert_float32_sum(dot(a, b, allow=True), truncated(a, 13), truncated(b, 13))
    away = (dot(a, b).double() - a.double() @ b.double()).abs().max()
    assert 1e-3 < away < 1e-1


@pytest.mark.parametrize(
    "asked", [{"precision": "ieee"}, {"precision": "tf32x3"}, {"allow": False}]
)
def test_a_float32_product_is_exact_where_the_kernel_asks(asked):
    a, b = operands(torch.float32)
    assert_float32_sum(dot(a, b, **asked), a, b)


def test_a_float64_product_is_float64():
    a, b = operands(torch.float64)
    assert (dot(a, b, out=torch.float64) - a @ b).abs().max() < 1e-12


def test_an_int8_product_is_exact_in_int32():
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (16, 64), generator=generator)
    b = torch.randint(-128, 128, (64, 16), generator=generator)
    result = torch.empty(16, 16, dtype=torch.int32)
    acc = torch.full((16, 16), 7, dtype=torch.int32)
    small = [t.to(torch.int8) for t in (a, b)]
    dot_kernel[(1,)](*small, acc, result, tl.int32, None, None, 16, 64, 16)
    assert torch.equal(result.long(), a @ b + 7)


def test_a_float16_accumulator_is_rounded_every_16_terms():
    a, b = torch.ones(16, 64).half(), torch.ones(64, 16).half()
    acc = torch.full((16, 16), 4096.0).half()  # steps of 4 from here on
    assert (dot(a / 8, b, out=torch.float16, acc=acc) == 4096).all()
    assert (dot(a, b, out=torch.float16, acc=acc) == 4096 + 64).all()


def test_a_transposed_tile_multiplies_as_its_transpose():
    x = torch.randn(32, 32).bfloat16()
    out = torch.empty(32, 32)
    bare_kernel[(1,)](x, out, 32)
    assert_float32_sum(out, x, x.T)


def test_batches_multiply_one_by_one():
    x = torch.randn(2, 16, 16).bfloat16()
    out = torch.empty(2, 16, 16)
    batched_kernel[(1,)](x, out, 2, 16)
    for one, product in zip(x, out, strict=True):
        assert_float32_sum(product, one, one)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_product_with_fewer_terms_than_an_instruction_has_is_refused(dtype):
    a, b = operands(dtype, k=8)
    with pytest.raises(Exception, match="K >= 16"):
        dot(a, b)


def test_int8_products_need_32_terms():
    x = torch.ones(16, 16, dtype=torch.int8)
    with pytest.raises(Exception, match="K >= 32"):
        bare_kernel[(1,)](x, torch.empty(16, 16, dtype=torch.int32), 16)
