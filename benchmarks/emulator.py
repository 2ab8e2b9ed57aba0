"""How much longer the emulator takes than Triton's own interpreter, on float32 kernels.

Each measurement runs in its own process, plain and emulated in turn; the least time of
each counts, in processor seconds. fla's kernels do not start in the plain interpreter (no
driver, and loops that give Python ints), so there "plain" is the emulator's launch around
the interpreter's own arithmetic, without the check of addresses and without its rounding.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

LIMIT = 1.5


def least_seconds(run: Callable[[], Any], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def measure(repeats: int) -> dict[str, float]:
    """Time the kernels in whatever runs Triton's kernels in this process."""
    import torch
    import triton
    import triton.language as tl

    @triton.jit
    def add(x, y, out, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        total = tl.load(x + at, mask=at < n) + tl.load(y + at, mask=at < n)
        tl.store(out + at, total, mask=at < n)

    @triton.jit
    def matmul(a, b, out, M, N, K: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr):
        m = tl.program_id(0) * BM + tl.arange(0, BM)
        n = tl.program_id(1) * BM + tl.arange(0, BM)
        k = tl.arange(0, BK)
        total = tl.zeros((BM, BM), tl.float32)
        for at in range(0, K, BK):
            left = tl.load(a + m[:, None] * K + at + k[None, :], mask=m[:, None] < M, other=0.0)
            right = tl.load(b + (at + k)[:, None] * N + n[None, :], mask=n[None, :] < N, other=0.0)
            total = tl.dot(left, right, total)
        tl.store(out + m[:, None] * N + n[None, :], total, mask=(m[:, None] < M) & (n < N)[None, :])

    def run_add() -> None:
        add[(64,)](x, y, torch.empty_like(x), x.numel(), BLOCK=1024)

    def run_matmul() -> None:
        matmul[(2, 2)](a, a, torch.empty_like(a), 128, 128, K=128, BM=64, BK=32)

    torch.manual_seed(0)
    x, y, a = torch.randn(65536), torch.randn(65536), torch.randn(128, 128)
    return {
        "add, 64 programs of 1024": least_seconds(run_add, repeats),
        "matmul, 128 x 128 x 128": least_seconds(run_matmul, repeats),
    }


def measure_fla(repeats: int) -> dict[str, float]:
    try:
        from fla.ops.simple_gla import chunk_simple_gla
    except ImportError:
        return {}
    import torch

    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 128, 2, 64) for _ in range(3))
    gamma = -torch.rand(2)

    def run() -> None:
        chunk_simple_gla(q, k, v, g_gamma=gamma, output_final_state=True)

    return {"fla chunk_simple_gla, T 128": least_seconds(run, repeats)}


def use_plain_arithmetic() -> None:
    """Put the interpreter's own builder into the emulator's launch."""
    from triton.runtime.interpreter import InterpreterBuilder

    from lingspec.conformance import emulator

    running = emulator._STATE.emulator
    running.builder = running.semantic.builder = InterpreterBuilder()


def measured_in_child(how: str, what: str, repeats: int) -> dict[str, float]:
    from lingspec.conformance import emulator

    if how == "emulated" or what == "fla":
        emulator.install()
        if how == "plain":
            use_plain_arithmetic()
    else:
        os.environ["TRITON_INTERPRET"] = "1"
    return measure_fla(repeats) if what == "fla" else measure(repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs in each process")
    parser.add_argument("--child", nargs=2, metavar=("HOW", "WHAT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured_in_child(*args.child, args.repeats)))
        return
    least: dict[tuple[str, str], float] = {}
    for how in ("plain", "emulated") * args.rounds:
        for what in ("own", "fla"):
            command = [sys.executable, __file__, "--repeats", str(args.repeats)]
            child = subprocess.run(
                [*command, "--child", how, what], capture_output=True, text=True, check=True
            )
            for name, seconds in json.loads(child.stdout).items():
                least[how, name] = min(seconds, least.get((how, name), seconds))
    print(f"{'kernel':30} {'plain':>9} {'emulated':>9} {'ratio':>6}   limit {LIMIT}")
    for name in sorted({name for _, name in least}):
        plain, emulated = least["plain", name], least["emulated", name]
        ratio = emulated / plain
        print(f"{name:30} {plain:8.4f}s {emulated:8.4f}s {ratio:6.2f}")


if __name__ == "__main__":
    main()
