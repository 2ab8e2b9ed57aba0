"""What a kernel's Python means, launched in the emulator, and what it may not say."""

import math

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
def loop_kernel(out, lo, hi, step, K: tl.constexpr):
    count = 0
    for i in range(lo, hi, step):
        tl.store(out + count, i.to(tl.int64))
        count += 1
    for i in range(0, K, 4):
        tl.store(out + count, i.to(tl.int64))
        count += 1
    for i in tl.range(hi):
        tl.store(out + count, i.to(tl.int64))
        count += 1
    for i in tl.static_range(3):
        tl.static_assert(i < 3)
        tl.store(out + count, i)
        count += 1
    for i in range(3, 0, -1):
        tl.store(out + count, i)
        count += 1


@triton.jit
def wide_kernel(out, n):
    wide = tl.load(out)
    for i in range(wide, wide + 1):
        tl.static_assert(i.dtype == tl.int64)
        low = min(i * 2, n)
        tl.static_assert(low.dtype == tl.int64)
        tl.store(out + 1, low)
        tl.store(out + 2, max(i, n, 7))
    tl.store(out + 3, min(3, 4))


@triton.jit
def logic_kernel(x, out, lo, hi, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    value = tl.load(x + at)
    both = value > lo and value < hi
    either = value <= lo or value >= hi
    neither = not either
    tl.store(out + at, both.to(tl.int32))
    tl.store(out + BLOCK + at, neither.to(tl.int32))
    tl.store(out + 2 * BLOCK + at, (lo < value < hi).to(tl.int32))
    if lo < hi and (BLOCK > 1000 or hi > 0):
        tl.store(out + 3 * BLOCK + at, 1)


@triton.jit
def condition_kernel(x, BLOCK: tl.constexpr):
    if tl.load(x + tl.arange(0, BLOCK)) > 0:
        tl.store(x, 1.0)


@triton.jit
def shape_kernel(x, BLOCK: tl.constexpr, HOW: tl.constexpr):
    if HOW == "arange":
        tl.store(x, tl.sum(tl.arange(0, BLOCK)))
    elif HOW == "zeros":
        tl.store(x, tl.sum(tl.zeros((BLOCK,), tl.float32)))
    else:
        tl.store(x, tl.sum(tl.zeros((BLOCK, BLOCK), tl.float32)))


@triton.jit
def types_kernel(out, i, big, huge, x, flag, nothing, one, kept: tl.int64):
    tl.static_assert(i.dtype == tl.int32)
    tl.static_assert(big.dtype == tl.int64)
    tl.static_assert(huge.dtype == tl.uint64)
    tl.static_assert(x.dtype == tl.float32)
    tl.static_assert(flag.dtype == tl.int1)
    tl.static_assert(kept.dtype == tl.int64)
    tl.static_assert(nothing is None)
    tl.static_assert(one == 1)
    tl.store(out, big + one)
    tl.store(out + 1, i + i)
    tl.store(out + 2, tl.where(flag, 5, 6))


@triton.jit
def wrap_kernel(out, i):
    tl.store(out, i * i)
    tl.store(out + 1, (i.to(tl.int64) * i) >> 4)


@triton.jit
def grid_kernel(out):
    at = (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2)
    tl.store(out + at + tl.program_id(2), at + tl.program_id(2) + 1)


@triton.jit
def library_kernel(x, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    value = tl.load(x + at)
    tl.store(out + at, tl.extra.libdevice.tanh(value))
    tl.store(out + BLOCK + at, tl.sigmoid(value))
    tl.store(out + 2 * BLOCK + at, tl.softmax(value))
    tl.store(out + 3 * BLOCK + at, tl.extra.cuda.libdevice.log1p(value))


@triton.jit
def assertion_kernel(x):
    tl.static_assert(x.dtype.element_ty == tl.float32, "only float32")


def test_every_loop_but_a_static_one_yields_tensors():
    out = torch.full((17,), -1)
    loop_kernel[(1,)](out, 1, 6, 2, 8)
    assert out.tolist() == [1, 3, 5, 0, 4, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 2, 1]


def test_indices_and_minima_are_as_wide_as_what_they_come_from():
    out = torch.tensor([2**40, 0, 0, 0])
    wide_kernel[(1,)](out, 9)
    assert out.tolist() == [2**40, 9, 2**40, 3]


def test_and_or_not_and_chains_combine_tiles_element_by_element():
    x, out = torch.arange(8.0), torch.zeros(4, 8, dtype=torch.int32)
    logic_kernel[(1,)](x, out, 2, 5, 8)
    expected = [0, 0, 0, 1, 1, 0, 0, 0]
    assert out.tolist() == [expected, expected, expected, [1] * 8]


def test_a_tile_is_no_condition():
    with pytest.raises(emulator.Refused, match=r"a tile of shape \(4,\) as a condition"):
        condition_kernel[(1,)](torch.ones(4), 4)


@pytest.mark.parametrize(
    ("how", "block", "message"),
    [
        ("arange", 12, "power of 2"),
        ("zeros", 12, "power of 2"),
        ("zeros", 2**21, r"numel|maximum"),
        ("square", 2048, r"numel|maximum"),
    ],
)
def test_tiles_of_a_shape_that_does_not_compile_are_refused(how, block, message):
    with pytest.raises(Exception, match=message):
        shape_kernel[(1,)](torch.zeros(1), block, how)


def test_arguments_have_the_types_that_a_launch_gives_them():
    out = torch.zeros(3, dtype=torch.int64)
    types_kernel[(1,)](out, 7, 2**31, 2**63, 0.5, True, None, 1, 3)
    assert out.tolist() == [2**31 + 1, 14, 5]


def test_int32_arithmetic_wraps():
    out = torch.zeros(2, dtype=torch.int64)
    wrap_kernel[(1,)](out, 2**16 + 1)
    assert out.tolist() == [2**17 + 1, (2**16 + 1) ** 2 >> 4]


def test_every_program_of_a_grid_runs():
    out = torch.zeros(2, 3, 4, dtype=torch.int32)
    grid_kernel[(2, 3, 4)](out)
    assert torch.equal(out.flatten(), torch.arange(1, 25, dtype=torch.int32))
    sizes = []

    def grid(meta):
        sizes.append(meta["out"].numel())
        return (2, 3, 4)

    grid_kernel[grid](out)
    assert sizes == [24], "a grid function sees the arguments as they were given"


@pytest.mark.parametrize("grid", [(1, 65536), (1, 1, 65536), (1, 1, 1, 1), ()])
def test_a_grid_that_no_gpu_launches_is_refused(grid):
    with pytest.raises(emulator.Refused, match="grid"):
        grid_kernel[grid](torch.zeros(1, dtype=torch.int32))


def test_a_number_of_warps_that_is_no_power_of_two_is_refused():
    with pytest.raises(emulator.Refused, match="num_warps=3"):
        grid_kernel[(1,)](torch.zeros(1, dtype=torch.int32), num_warps=3)
    grid_kernel[(1,)](torch.zeros(1, dtype=torch.int32), num_warps=4, num_stages=3)


def test_libdevice_and_the_standard_library_are_there():
    x = torch.rand(16) + 0.1
    out = torch.empty(4, 16)
    library_kernel[(1,)](x, out, 16)
    expected = torch.stack([x.tanh(), x.sigmoid(), x.softmax(0), x.log1p()])
    assert torch.allclose(out, expected, rtol=1e-6, atol=0)


def test_a_kernel_may_close_over_constants_and_functions_of_its_maker():
    offset = tl.constexpr(3.0)

    @triton.jit
    def shift(x):
        return x + offset

    @triton.jit
    def kernel(x):
        tl.store(x, shift(tl.load(x)))

    x = torch.zeros(1)
    kernel[(1,)](x)
    assert x.item() == 3


def test_a_static_assertion_and_a_kernel_s_own_error_name_the_kernel_or_the_reason():
    with pytest.raises(emulator.Refused, match="only float32"):
        assertion_kernel[(1,)](torch.zeros(1).bfloat16())
    with pytest.raises(Exception, match="kernel assertion_kernel, program"):
        assertion_kernel[(1,)](3.0)


def test_a_kernel_that_was_jitted_with_the_emulator_on_runs_the_same():
    @triton.jit
    def kernel(x, n):
        for i in range(n):
            tl.store(x + i, tl.exp(i.to(tl.float32)).to(tl.bfloat16))

    x = torch.zeros(4).bfloat16()
    kernel[(1,)](x, 4)
    assert torch.equal(x, torch.arange(4.0).exp().bfloat16())
    assert math.isclose(x[3].item(), math.exp(3), rel_tol=2**-8)
