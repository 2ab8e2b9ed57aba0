"""Which accesses are refused: every active lane must hit memory that is the kernel's to touch."""

import gc

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from lingspec.conformance import emulator  # noqa: E402, after the skip


@pytest.fixture(autouse=True)
def _emulated():
    with emulator.emulated():
        yield
        emulator.forbid([])


@triton.jit
def copy_kernel(x, out, n, start, BLOCK: tl.constexpr):
    at = start + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n, other=0.0), mask=at < n)


@triton.jit
def reach_kernel(x, out, offset):
    tl.store(out, tl.load(x + offset))


@triton.jit
def write_kernel(out, start, BLOCK: tl.constexpr):
    tl.store(out + start + tl.arange(0, BLOCK), 1.0)


@triton.jit
def add_kernel(out, offset):
    tl.atomic_add(out + offset, 1.0)


@triton.jit
def table_kernel(table, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    source = tl.load(table + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    tl.store(out + tl.program_id(0) * BLOCK + at, tl.load(source + at))


@triton.jit
def tile_kernel(x, out, M, N, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BLOCK, BLOCK])
    tile = source.load([0, 0])
    at = tl.arange(0, BLOCK)
    inside = (at[:, None] < M) & (at < N)[None, :]
    tl.store(out + at[:, None] * N + at[None, :], tile, mask=inside)


@triton.jit
def wrapping_kernel(x, out, rows, stride):
    """Row ``rows - 1`` of a matrix, addressed in int32."""
    tl.store(out, tl.load(x + (rows - 1) * stride))


def test_masked_lanes_may_point_anywhere():
    x, out = torch.randn(5), torch.zeros(5)
    copy_kernel[(1,)](x, out, 5, 0, 1024)
    assert torch.equal(out, x)


def test_a_load_past_the_end_is_refused_and_says_where():
    x, out = torch.randn(3, 5), torch.zeros(20)
    with pytest.raises(emulator.OutOfBounds) as caught:
        copy_kernel[(2,)](x, out, 17, 0, 16)
    text = str(caught.value)
    assert "kernel copy_kernel, program (0, 0, 0): 1 of 16 active lanes load 4 bytes" in text
    assert "0 bytes after the end of x, shape (3, 5), torch.float32" in text


def test_a_store_before_the_start_is_refused():
    with pytest.raises(emulator.OutOfBounds, match=r"store .* 8 bytes before the start of out"):
        write_kernel[(1,)](torch.zeros(8), -2, 1)
    with pytest.raises(emulator.OutOfBounds, match=r"2 of 4 active lanes store 4 bytes"):
        write_kernel[(1,)](torch.zeros(8), -2, 4)


def test_storage_beside_an_argument_s_own_elements_is_live():
    x = torch.zeros(8)
    write_kernel[(1,)](x[2:], -2, 4)
    assert x.tolist() == [1] * 4 + [0] * 4


def test_an_atomic_outside_is_refused():
    with pytest.raises(emulator.OutOfBounds, match="atomic"):
        add_kernel[(1,)](torch.zeros(4), 4)


def test_an_access_across_an_end_is_refused():
    x = torch.zeros(10, dtype=torch.uint8)
    with pytest.raises(emulator.OutOfBounds):
        reach_kernel[(1,)](x[:8].view(torch.float32), torch.zeros(1), 2)


def test_a_forbidden_range_is_refused_inside_a_live_storage():
    arena = torch.zeros(32)
    x, out = arena[:8], arena[16:24]
    start = arena.data_ptr()
    emulator.forbid([(start + 32, start + 64), (start + 96, start + 128)])
    copy_kernel[(1,)](x, out, 8, 0, 8)
    with pytest.raises(emulator.OutOfBounds, match="1 of them in a guard band"):
        reach_kernel[(1,)](x, out, 8)
    with pytest.raises(emulator.OutOfBounds, match="guard band"):
        add_kernel[(1,)](out, 8)
    emulator.forbid([])
    reach_kernel[(1,)](x, out, 8)


def test_a_forbidden_range_must_not_end_before_it_starts():
    with pytest.raises(ValueError, match="expected 0 <= start <= end"):
        emulator.forbid([(2, 1)])


def distance(a, b):
    return (b.data_ptr() - a.data_ptr()) // a.element_size()


def test_a_tensor_of_an_earlier_launch_is_live_until_it_dies():
    x, out, other = torch.randn(4), torch.zeros(4), torch.randn(4)
    away = distance(x, other)
    with pytest.raises(emulator.OutOfBounds):
        reach_kernel[(1,)](x, out, away)
    reach_kernel[(1,)](other, out, 0)
    reach_kernel[(1,)](x, out, away)
    assert out[0].item() == other[0].item()
    del other
    gc.collect()
    with pytest.raises(emulator.OutOfBounds):
        reach_kernel[(1,)](x, out, away)


def test_under_watch_only_the_arguments_and_the_watched_are_live():
    x, out, other = torch.randn(4), torch.zeros(4), torch.randn(4)
    away = distance(x, other)
    reach_kernel[(1,)](other, out, 0)
    with emulator.watch([x]):
        with pytest.raises(emulator.OutOfBounds):
            reach_kernel[(1,)](x, out, away)
        with emulator.watch([other]):
            reach_kernel[(1,)](x, out, away)
        with pytest.raises(emulator.OutOfBounds):
            reach_kernel[(1,)](x, out, away)


@pytest.mark.parametrize("watched", [False, True])
def test_a_table_of_pointers_makes_live_what_it_points_into(watched):
    sources = [torch.randn(16) for _ in range(3)]
    others = [torch.eye(2).to_sparse(), torch.eye(2).to_mkldnn()]  # have no storage of their own
    table = torch.tensor([s.data_ptr() for s in sources])
    out = torch.zeros(3, 16)
    with emulator.watch([out] if watched else []):
        table_kernel[(3,)](table, out, 16)
    assert torch.equal(out, torch.stack(sources))
    assert len(others) == 2


def test_a_table_of_pointers_makes_nothing_else_live():
    source, other = torch.randn(8), torch.randn(8)
    table = torch.tensor([source.data_ptr()])
    with pytest.raises(emulator.OutOfBounds, match="8 of 16 active lanes"):
        table_kernel[(1,)](table, torch.zeros(16), 16)
    assert other.numel() == 8


def test_a_tensor_descriptor_reads_zeros_outside_and_nothing_more():
    x, out = torch.randn(5, 8), torch.zeros(5, 8)
    tile_kernel[(1,)](x, out, 5, 8, 16)
    assert torch.equal(out, x)
    with pytest.raises(emulator.OutOfBounds):
        tile_kernel[(1,)](x, torch.zeros(8, 8), 8, 8, 16)


def test_an_offset_that_overflows_int32_wraps_and_is_caught_as_an_address():
    x, out = torch.randn(8), torch.zeros(1)
    with pytest.raises(emulator.OutOfBounds, match="bytes before the start of"):
        wrapping_kernel[(1,)](x, out, 2**15 + 1, 2**16)


def test_overflow_is_an_error_where_asked():
    emulator.uninstall()
    x, out = torch.randn(8), torch.zeros(1)
    with emulator.emulated(sanitize_overflow=True):
        wrapping_kernel[(1,)](x, out, 2, 3)
        assert out.item() == x[3].item()
        with pytest.raises(Exception, match="int32 overflow detected"):
            wrapping_kernel[(1,)](x, out, 2**15 + 1, 2**16)


def test_an_empty_tensor_and_an_empty_grid_touch_nothing():
    copy_kernel[(1,)](torch.zeros(0), torch.zeros(0), 0, 0, 16)
    copy_kernel[(0,)](torch.zeros(0), torch.zeros(0), 100, 0, 16)


def test_a_gradient_s_tensor_needs_no_detaching():
    x, out = torch.randn(4, requires_grad=True), torch.zeros(4)
    copy_kernel[(1,)](x, out, 4, 0, 4)
    assert torch.equal(out, x.detach())
