"""Atomics: every lane counts, and bfloat16 rounds each time."""

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
def atomic_kernel(x, out, old, n, STEP: tl.constexpr, OP: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < n, other=0.0)
    if OP == "add":
        was = tl.atomic_add(out + at // STEP, value, mask=at < n)
    elif OP == "max":
        was = tl.atomic_max(out + at // STEP, value, mask=at < n)
    else:
        was = tl.atomic_xchg(out + at // STEP, value, mask=at < n)
    tl.store(old + at, was, mask=at < n)


@triton.jit
def swap_kernel(x, old, expected, new):
    was = tl.atomic_cas(x, tl.load(expected), tl.load(new))
    tl.store(old, was)


@settings(deadline=None)
@given(n=st.integers(0, 16), step=st.sampled_from([1, 2, 4, 16]))
def test_atomic_adds_to_one_address_in_one_call_are_all_counted(n, step):
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        x = torch.arange(1, 17).to(dtype)
        out, old = torch.zeros(16, dtype=dtype), torch.zeros(16, dtype=dtype)
        atomic_kernel[(1,)](x, out, old, n, step, "add", 16)
        expected = torch.zeros(16)
        before = []
        for i in range(n):
            before.append(expected[i // step].item())
            expected[i // step] += i + 1
        assert torch.equal(out.float(), expected)
        assert old[:n].tolist() == before


def test_a_bf16_atomic_add_rounds_each_time():
    out, old = torch.full((1,), 256.0).bfloat16(), torch.zeros(16).bfloat16()
    atomic_kernel[(1,)](torch.ones(16).bfloat16(), out, old, 16, 16, "add", 16)
    assert out.item() == 256, "256 + 1 is a tie, and goes to even every time"


def test_atomic_max_and_exchange_work_on_float32():
    x = torch.tensor([3.0, -1.0, 7.0, 2.0] * 4)
    out, old = torch.full((1,), -5.0), torch.zeros(16)
    atomic_kernel[(1,)](x, out, old, 16, 16, "max", 16)
    assert out.item() == 7
    atomic_kernel[(1,)](x, out, old, 1, 16, "xchg", 16)
    assert (out.item(), old[0].item()) == (3, 7)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_compare_and_swap_swaps_only_what_it_expects(dtype):
    x, old, one, two = (torch.tensor([v], dtype=dtype) for v in (1, 0, 1, 2))
    swap_kernel[(1,)](x, old, one, two)
    assert (x.item(), old.item()) == (2, 1)
    swap_kernel[(1,)](x, old, one, one)
    assert (x.item(), old.item()) == (2, 2)


def test_an_atomic_max_of_bf16_is_refused_as_the_compiler_refuses_it():
    x = torch.ones(16).bfloat16()
    with pytest.raises(Exception, match=r"bf16|bfloat16"):
        atomic_kernel[(1,)](x, x.clone(), x.clone(), 16, 1, "max", 16)
