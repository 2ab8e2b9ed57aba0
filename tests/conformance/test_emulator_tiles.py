"""What moves values without changing them, and what a descriptor or block pointer loads."""

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from triton.tools.tensor_descriptor import TensorDescriptor  # noqa: E402, after the skip

from lingspec.conformance import emulator  # noqa: E402, likewise

BLOCK_POINTERS = tuple(int(n) for n in triton.__version__.split(".")[:2]) < (3, 9)


@pytest.fixture(autouse=True, scope="module")
def _emulated():
    with emulator.emulated():
        yield


@triton.jit
def move_kernel(x, out, N: tl.constexpr):
    n = tl.arange(0, N)
    a = tl.load(x + n)
    first, second = tl.split(tl.join(a, a + 1))
    tl.store(out + tl.arange(0, 2 * N), tl.interleave(first, second))
    tl.store(out + 2 * N + n, tl.gather(a, (n + 1) % N, 0))
    tl.store(out + 3 * N + n, tl.reshape(tl.trans(tl.reshape(a, (N // 2, 2))), (N,)))
    tl.store(out + 4 * N + n, tl.flip(a, 0))
    tl.store(out + 5 * N + n, tl.clamp(a, 1.0, 2.0))
    tl.store(out + 6 * N + tl.arange(0, 4), tl.topk(a, 4))


@triton.jit
def constant_kernel(out, N: tl.constexpr):
    n = tl.arange(0, N)
    a = tl.full((N,), 1.1, tl.bfloat16)
    b = tl.where(n < 3, a, 0.1) * 3
    tl.static_assert(b.dtype == tl.bfloat16)
    tl.store(out + n, tl.where(n == 5, float("-inf"), b) + tl.zeros((N,), tl.bfloat16))


@triton.jit
def branch_kernel(out, n):
    i = 0
    total = 0.0
    while i < n:
        i += 1
        if i == 3:
            total += 10
        else:
            total += 1.0 if i > 2 else 2.0
    tl.store(out, total)


@triton.jit
def random_kernel(out, N: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, tl.rand(7, n))


@triton.jit
def descriptor_kernel(source, out, N: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n[:, None] * N + n[None, :], source.load([0, 0]))


@triton.jit
def block_kernel(x, out, M, N, B: tl.constexpr, CHECK: tl.constexpr):
    source = tl.make_block_ptr(x, (M, N), (N, 1), (0, 0), (B, B), (1, 0))
    target = tl.make_block_ptr(out, (M, N), (N, 1), (0, 0), (B, B), (1, 0))
    if CHECK:
        tile = tl.load(source, boundary_check=(0, 1), padding_option="zero")
    else:
        tile = tl.load(source)
    tl.store(target, tile, boundary_check=(0, 1))


def test_tiles_of_bf16_are_moved_as_numbers():
    x, out = torch.arange(8).bfloat16(), torch.zeros(7, 8).bfloat16()
    move_kernel[(1,)](x, out, 8)
    assert out.tolist() == [
        [0, 1, 1, 2, 2, 3, 3, 4],
        [4, 5, 5, 6, 6, 7, 7, 8],
        [1, 2, 3, 4, 5, 6, 7, 0],
        [0, 2, 4, 6, 1, 3, 5, 7],
        [7, 6, 5, 4, 3, 2, 1, 0],
        [1, 1, 2, 2, 2, 2, 2, 2],
        [7, 6, 5, 4, 0, 0, 0, 0],
    ]


def test_constants_are_rounded_to_bf16():
    out = torch.empty(8).bfloat16()
    constant_kernel[(1,)](out, 8)
    expected = torch.tensor([1.1] * 3 + [0.1] * 5).bfloat16() * 3
    expected[5] = -torch.inf
    assert torch.equal(out, expected)


def test_loops_and_branches_follow_scalars():
    out = torch.zeros(1)
    branch_kernel[(1,)](out, 5)
    assert out.item() == 16


def test_random_numbers_are_those_of_philox():
    out = torch.zeros(4)
    random_kernel[(1,)](out, 4)
    assert out.tolist() == pytest.approx([0.0908, 0.8139, 0.0122, 0.7804], abs=1e-4)


def test_a_descriptor_s_float32_is_rounded_to_nearest_tf32_only_where_it_says_so():
    x, out = torch.randn(16, 16), torch.zeros(16, 16)
    descriptor = TensorDescriptor.from_tensor(x, [16, 16])
    descriptor_kernel[(1,)](descriptor, out, 16)
    assert torch.equal(out, x)
    if not hasattr(descriptor, "round_f32_to_tf32"):
        pytest.skip("this Triton's descriptors do not round")
    descriptor.round_f32_to_tf32 = True
    descriptor_kernel[(1,)](descriptor, out, 16)
    nearest = ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    assert torch.equal(out, nearest)


@pytest.mark.skipif(not BLOCK_POINTERS, reason="Triton 3.9 has no block pointers")
def test_block_pointers_read_outside_only_unchecked():
    x, out = torch.randn(5, 7), torch.zeros(5, 7)
    block_kernel[(1,)](x, out, 5, 7, 8, True)
    assert torch.equal(out, x)
    with pytest.raises(emulator.OutOfBounds, match="25 of 64 active lanes load"):
        block_kernel[(1,)](x, out, 5, 7, 8, False)
