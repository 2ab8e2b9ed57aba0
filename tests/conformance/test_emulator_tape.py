"""Programs that are played from a tape: the bits, the errors and the order of the front end."""

import traceback

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from lingspec.conformance import emulator  # noqa: E402, after the skip
from lingspec.conformance.emulator import tape  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _emulated():
    with emulator.emulated():
        yield


class Runs:
    """How many programs the front end ran, of how many there were."""

    def __init__(self) -> None:
        self.front_end = self.programs = 0


@pytest.fixture
def runs(monkeypatch):
    """Counts; ``runs.plain()`` leaves every program to the front end."""
    counted = Runs()
    program, init = tape.Tape.program, tape.Tape.__init__

    def counting(self, semantic, kernel):
        def front_end():
            counted.front_end += 1
            kernel()

        init(self, semantic, front_end)

    def one(self):
        counted.programs += 1
        program(self)

    def plain():
        monkeypatch.setattr(tape.Tape, "program", lambda self: self._kernel())

    monkeypatch.setattr(tape.Tape, "__init__", counting)
    monkeypatch.setattr(tape.Tape, "program", one)
    counted.plain = plain
    return counted


def both(runs, launch):
    """What ``launch`` returns from the tape, after it was found equal without it."""
    taped = launch()
    front_end = runs.front_end
    runs.plain()
    plain = launch()
    assert all(torch.equal(a, b) for a, b in zip(taped, plain, strict=True))
    runs.front_end = front_end
    return taped


@triton.jit
def scale(x, factor):
    return x * factor


@triton.jit
def rows_kernel(x, out, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    value = tl.load(x + row * n + at, mask=at < n, other=0.0)
    tl.store(out + row * n + at, scale(value, 2.0) / tl.sum(value * value), mask=at < n)


def test_equal_programs_need_the_front_end_once(runs):
    x = torch.randn(7, 13)

    def launch():
        out = torch.empty_like(x)
        rows_kernel[(7,)](x, out, 13, BLOCK=16)
        return [out]

    (out,) = both(runs, launch)
    assert runs.front_end == 1
    torch.testing.assert_close(out, 2 * x / (x * x).sum(-1, keepdim=True))


@triton.jit
def triangle_kernel(x, out, n, BLOCK: tl.constexpr):
    """Running sums of different lengths, into the input itself: no store may happen twice."""
    row = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    at = tl.arange(0, BLOCK)
    for i in range(row % 3 + 1):
        total += tl.load(x + (row * 4 + i) * BLOCK + at)
        tl.store(x + (row * 4 + i) * BLOCK + at, total)
        if tl.load(x + (row * 4 + i) * BLOCK) > 0:
            total = -total
    tl.store(out + row * BLOCK + at, total)


def test_loops_and_branches_fork_the_tape_and_repeat_no_store(runs):
    start = torch.randn(60, 4, 8)

    def launch():
        x, out = start.clone(), torch.empty(60, 8)
        triangle_kernel[(60,)](x, out, 8, BLOCK=8)
        return [x, out]

    both(runs, launch)
    assert runs.front_end <= 2 + 4 + 8  # loops of one, two and three turns, a branch in each
    assert runs.programs == 60


@triton.jit
def claim_kernel(counter, order, out):
    place = tl.atomic_add(counter, 1)
    tl.store(order + place, tl.program_id(0))
    while tl.load(counter) % 3 != 0:
        tl.atomic_add(counter, 1)
    tl.store(out + tl.program_id(0), tl.load(counter))


def test_memory_is_read_anew_by_every_program(runs):
    def launch():
        counter = torch.zeros(1, dtype=torch.int32)
        order, out = torch.full((64,), -1, dtype=torch.int32), torch.zeros(6, dtype=torch.int32)
        claim_kernel[(6,)](counter, order, out)
        return [counter, order, out]

    counter, _, out = both(runs, launch)
    assert out.tolist() == [3, 6, 9, 12, 15, 18]
    assert counter.item() == 18


@triton.jit
def larger(a, ai, b, bi):
    return tl.where(a >= b, a, b), tl.where(a >= b, ai, bi)


@triton.jit
def joined(a, b):
    return a * b + a


@triton.jit
def shapes_kernel(x, out, places, scans, N: tl.constexpr):
    row = tl.program_id(0)
    n = tl.arange(0, N)
    tile = tl.load(x + row * N * N + n[:, None] * N + n[None, :])
    value, place = tl.reduce((tile, n[None, :] + n[:, None] * 0), 1, larger)
    tl.store(places + row * N + n, place)
    tl.store(scans + row * N + n, tl.associative_scan(value, 0, joined, reverse=True))
    first, second = tl.split(tl.join(tile, tile.T))
    halves = tl.sum(tl.reshape(first.to(tl.bfloat16), (N * N,)), keep_dims=True)
    turned = tl.dot(tl.trans(first), second, allow_tf32=False) + halves.to(tl.float32)
    tl.store(out + row * N * N + n[:, None] * N + n[None, :], turned.T)


def test_tuples_trees_and_transposes_are_on_the_tape(runs):
    x = torch.randn(5, 16, 16)

    def launch():
        out, scans = torch.empty_like(x), torch.empty(5, 16)
        places = torch.empty(5, 16, dtype=torch.int32)
        shapes_kernel[(5,)](x, out, places, scans, N=16)
        return [out, places, scans]

    _, places, _ = both(runs, launch)
    assert runs.front_end == 1
    assert places.tolist() == x.argmax(-1).tolist()


@triton.jit
def block_kernel(x, out, n):
    row = tl.program_id(0)
    where = tl.make_tensor_descriptor(x + row * 16 * n, [16, n], [n, 1], [16, 16])
    tl.store(
        out + row * 256 + tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :],
        where.load([0, 0]),
    )


def test_what_is_no_tile_tears_the_tape(runs):
    x = torch.randn(4, 16, 16)

    def launch():
        out = torch.empty_like(x)
        block_kernel[(4,)](x, out, 16)
        return [out]

    (out,) = both(runs, launch)
    assert torch.equal(out, x)
    assert runs.front_end == 4


@triton.jit
def peek_kernel(x, out):
    row = tl.program_id(0)
    value = tl.load(x + row)
    tl.static_print(value)
    tl.store(out + row, value + 1)


def test_a_value_that_python_prints_tears_the_tape(runs, capsys):
    x = torch.arange(3.0)

    def launch():
        out = torch.empty_like(x)
        peek_kernel[(3,)](x, out)
        return [out]

    (out,) = both(runs, launch)
    assert out.tolist() == [1, 2, 3]
    assert "2." in capsys.readouterr().out
    assert runs.front_end == 3


@pytest.mark.parametrize("limit", ["MOST_CALLS", "MOST_HELD"])
def test_a_tape_that_is_full_changes_nothing(runs, limit, monkeypatch):
    monkeypatch.setattr(tape, limit, 5)
    start = torch.randn(6, 4, 8)

    def launch():
        x, out = start.clone(), torch.empty(6, 8)
        triangle_kernel[(6,)](x, out, 8, BLOCK=8)
        return [x, out]

    both(runs, launch)
    assert runs.front_end == 6 or limit == "MOST_HELD"


@triton.jit
def stray_kernel(x, out, far):
    row = tl.program_id(0)
    value = tl.load(x + row)
    tl.store(out + row + (row // 2) * far, value)  # outside, from the third program on


def test_an_error_names_the_program_and_leads_into_the_kernel(runs):
    x, out = torch.arange(4.0), torch.zeros(4)
    with pytest.raises(emulator.OutOfBounds, match=r"program \(2, 0, 0\)") as raised:
        stray_kernel[(4,)](x, out, 1 << 30)
    lines = [f.line for f in traceback.extract_tb(raised.value.__traceback__)]
    assert any("row // 2" in (line or "") for line in lines)
    assert out.tolist() == [0, 1, 0, 0]
    assert runs.front_end == 2  # the first, and the one that fails


@triton.jit
def scratch_kernel(x, out, N: tl.constexpr, TURNS: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    value = tl.load(x + at)
    for _ in tl.static_range(TURNS):
        value = value * 1.5
    tl.store(out + at, value)


def test_a_value_is_dropped_when_the_kernel_has_no_use_for_it(monkeypatch):
    most = 0
    again = tape.Tape._again

    def watched(self, stretch):
        nonlocal most
        for call, takes, gives, before, drops in list(stretch.steps):
            most += bool(drops)
            del call, takes, gives, before
        again(self, stretch)

    monkeypatch.setattr(tape.Tape, "_again", watched)
    x = torch.randn(2 * 64)
    scratch_kernel[(2,)](x, torch.empty_like(x), N=64, TURNS=20)
    assert most >= 20


@triton.jit
def overflowing_kernel(x, out, n):
    """Every program also stores behind its own part, where the next one stores afterwards."""
    row = tl.program_id(0)
    at = row * 2 + tl.arange(0, 4)
    tl.store(out + at, tl.load(x + at, mask=at < n) * (row + 1), mask=at < n)


@triton.jit
def counting_kernel(counter, out):
    tl.store(out + tl.atomic_add(counter, 1), tl.program_id(0))


@triton.jit
def waiting_kernel(flags, out):
    row = tl.program_id(0)
    while tl.load(flags + row) == 0:
        pass
    tl.store(flags + row + 1, 1)
    tl.store(out + row, row)


@pytest.fixture
def backward():
    yield lambda: emulator.select_order(backward=True)
    emulator.select_order(backward=False)


def test_programs_against_the_order_of_the_grid_show_who_stores_over_whom(backward):
    x, out = torch.ones(8), torch.empty(8)
    overflowing_kernel[(4,)](x, out, 8)
    assert out.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    backward()
    overflowing_kernel[(4,)](x, out, 8)
    assert out.tolist() == [1, 1, 1, 1, 2, 2, 3, 3]


def test_kernels_whose_programs_may_wait_for_one_another_keep_the_order_of_the_grid(backward):
    def launch():
        counter, order = torch.zeros(1, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
        counting_kernel[(4,)](counter, order)
        flags, out = torch.zeros(5, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
        flags[0] = 1
        waiting_kernel[(4,)](flags, out)
        return order.tolist(), out.tolist()

    assert launch() == ([0, 1, 2, 3], [0, 1, 2, 3])
    backward()
    assert launch() == ([0, 1, 2, 3], [0, 1, 2, 3])
