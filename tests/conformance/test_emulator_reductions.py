"""Sums, scans and extrema: where each rounds, and what order it keeps."""

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from lingspec.conformance import emulator  # noqa: E402, after the skip

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True, scope="module")
def _emulated():
    with emulator.emulated():
        yield


@triton.jit
def linear(a1, b1, a2, b2):
    """Compose x -> a x + b: associative, and the order counts."""
    return a1 * a2, b1 * a2 + b2


@triton.jit
def add(a, b):
    return a + b


@triton.jit
def larger(a, b):
    return a if a > b else b


@triton.jit
def reduce_kernel(x, out, AXIS: tl.constexpr, OP: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    tile = tl.load(x + m[:, None] * N + n[None, :])
    if OP == "sum":
        r = tl.sum(tile, AXIS)
    elif OP == "max":
        r = tl.max(tile, AXIS)
    elif OP == "min":
        r = tl.min(tile, AXIS)
    elif OP == "argmax":
        r = tl.argmax(tile, AXIS)
    elif OP == "argmin":
        r = tl.argmin(tile, AXIS)
    elif OP == "xor":
        r = tl.xor_sum(tile, AXIS)
    elif OP == "larger":
        r = tl.reduce(tile, AXIS, larger)
    else:
        r = tl.reduce(tile, AXIS, add)
    if AXIS is None:
        tl.store(out, r)
    elif AXIS == 0:
        tl.store(out + n, r)
    else:
        tl.store(out + m, r)


@triton.jit
def scan_kernel(
    x,
    out,
    AXIS: tl.constexpr,
    OP: tl.constexpr,
    BACK: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tile = tl.load(x + at)
    if OP == "cumsum":
        r = tl.cumsum(tile, AXIS, reverse=BACK)
    elif OP == "cumprod":
        r = tl.cumprod(tile, AXIS, reverse=BACK)
    else:
        r = tl.associative_scan(tile, AXIS, add, reverse=BACK)
    tl.store(out + at, r)


@triton.jit
def linear_kernel(a, b, out, N: tl.constexpr):
    n = tl.arange(0, N)
    _, last = tl.reduce((tl.load(a + n), tl.load(b + n)), 0, linear)
    _, every = tl.associative_scan((tl.load(a + n), tl.load(b + n)), 0, linear)
    tl.store(out + n, every)
    tl.store(out + N, last)


@triton.jit
def sort_kernel(x, out, N: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, tl.sort(tl.load(x + n)))


@triton.jit
def keep_kernel(x, out, N: tl.constexpr):
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    tile = tl.load(x + at)
    tl.store(out + at, tile / tl.sum(tile, 1, keep_dims=True) + tile.sum(0)[None, :])


def reduced(x, axis, op, dtype=None):
    shape = [] if axis is None else [x.shape[1 - axis]]
    out = torch.empty(shape, dtype=dtype or x.dtype)
    reduce_kernel[(1,)](x, out, axis, op, *x.shape)
    return out


def scanned(x, axis, op, *, back=False, dtype=None):
    out = torch.empty_like(x, dtype=dtype or x.dtype)
    scan_kernel[(1,)](x, out, axis, op, back, *x.shape)
    return out


def tree_sum(x):
    while x.shape[-1] > 1:
        x = x[..., ::2] + x[..., 1::2]
    return x[..., 0]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("op", ["sum", "own function"])
def test_a_half_precision_sum_rounds_at_every_step_of_a_tree(dtype, op):
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(reduced(x, 1, op), tree_sum(x))
    assert torch.equal(reduced(x, 0, op), tree_sum(x.T))
    assert torch.equal(reduced(x, None, op), tree_sum(x.flatten()))


def test_a_bf16_sum_of_many_ones_is_no_longer_exact():
    x = torch.full((1, 1024), 1.0).bfloat16()
    x[0, 0] = 1.0078125
    assert reduced(x, 1, "sum").item() == 1024


@pytest.mark.parametrize("axis", [0, 1, None])
def test_a_float32_sum_is_float32(axis):
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    exact = x.double().sum() if axis is None else x.double().sum(axis)
    assert (reduced(x, axis, "sum") - exact).abs().max() < 1e-4


def test_an_int32_sum_wraps():
    x = torch.full((2, 4), 2**30, dtype=torch.int32)
    assert reduced(x, 1, "sum").tolist() == [0, 0]
    assert reduced(x, 1, "xor").tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_extrema_ignore_nan_and_are_nan_only_if_all_is(dtype):
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = x.max(1).values, x.min(1).values
    x = torch.cat([x, torch.full_like(x, float("nan"))], 1)
    out = torch.promote_types(dtype, torch.float32)
    assert torch.equal(reduced(x, 1, "max", out), expected[0].to(out))
    assert torch.equal(reduced(x, 1, "min", out), expected[1].to(out))
    assert reduced(torch.full_like(x, float("nan")), 1, "max", out).isnan().all()


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_the_first_of_equal_extrema_is_found(dtype):
    x = torch.randint(0, 5, (16, 32), generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(reduced(x, 1, "argmax", torch.int32).long(), x.argmax(1))
    assert torch.equal(reduced(x, 1, "argmin", torch.int32).long(), x.argmin(1))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_a_conditional_expression_in_a_reduction_chooses_element_by_element(dtype):
    x = torch.randn(16, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(reduced(x, 1, "larger"), x.max(1).values)


@pytest.mark.parametrize("dtype", HALVES)
def test_sorting_bf16_sorts_numbers(dtype):
    x = torch.randn(64, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = torch.empty_like(x)
    sort_kernel[(1,)](x, out, 64)
    assert torch.equal(out, x.sort().values)


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_scans_of_integers_and_float32_agree_with_torch(axis, back):
    x = torch.randint(-9, 9, (8, 16), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    turned = x.flip(axis) if back else x
    expected = turned.cumsum(axis).flip(axis) if back else turned.cumsum(axis)
    for op in ("cumsum", "own function"):
        assert torch.equal(scanned(x, axis, op, back=back).long(), expected)
        assert torch.equal(scanned(x.float(), axis, op, back=back), expected.float())


def test_a_bf16_scan_rounds_at_every_step():
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = scanned(x, 1, "own function")
    assert torch.equal(out[:, 0], x[:, 0])
    assert torch.equal(out[:, 1], x[:, 0] + x[:, 1])
    assert torch.equal(out[:, -1], tree_sum(x))
    exact = x.double().cumsum(1)
    assert 0 < (out - exact).abs().max() < 64 * 2.0**-8 * x.double().abs().sum(1).max()


def test_an_associative_function_that_does_not_commute_keeps_its_order():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(64, generator=generator), torch.randn(64, generator=generator)
    out = torch.empty(65)
    linear_kernel[(1,)](a, b, out, 64)
    state, states = 0.0, []
    for factor, term in zip(a.tolist(), b.tolist(), strict=True):
        state = factor * state + term
        states.append(state)
    assert torch.allclose(out, torch.tensor([*states, state]), rtol=1e-5, atol=1e-6)


def test_a_kept_dimension_broadcasts_and_a_tile_has_methods():
    x = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) + 1
    out = torch.empty(16, 16)
    keep_kernel[(1,)](x, out, 16)
    assert torch.allclose(out, x / x.sum(1, keepdim=True) + x.sum(0))
