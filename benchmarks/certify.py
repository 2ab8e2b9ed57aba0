"""What judging costs: time, memory, the share of it that is the candidate's, time to a rejection.

`certify` runs as its users run it; memory is that of all its processes together, sampled (shared
pages are counted once, by proportional set size). The ratio compares the candidate's calls with
the whole judgement in one process.

    python benchmarks/certify.py [--profile smoke --profile ci] [-n 2] [--sample 8] [--report DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lingspec.conformance.certify import opened
from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.output import environment
from lingspec.conformance.plan import plan
from lingspec.conformance.registry import mutants
from lingspec.conformance.report import Options
from lingspec.conformance.run import laws_for, parts
from lingspec.conformance.runner.host import Host

LINGSPEC = [sys.executable, "-m", "lingspec.conformance"]
EVERY = 0.2  # seconds between two samples of memory
MIB = 2**20


def tree(root: int) -> list[int]:
    """A process and all that descend from it, now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            # the name in brackets may hold anything; the parent is the second word after it
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def memory(pid: int) -> int:
    """Bytes of a process, pages that others share counted in part; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def watched(command: list[str]) -> tuple[float, int, subprocess.CompletedProcess[str]]:
    """Run a command: seconds, peak bytes of its processes together, what it said."""
    peak, over = 0, threading.Event()
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)

        def sample() -> None:
            nonlocal peak
            while not over.wait(EVERY):
                peak = max(peak, sum(map(memory, tree(process.pid))))

        sampler = threading.Thread(target=sample)
        sampler.start()
        code = process.wait()
        seconds = time.perf_counter() - began
        over.set()
        sampler.join()
        said.seek(0)
        return seconds, peak, subprocess.CompletedProcess(command, code, said.read())


def certified(op: str, target: str, profile: str, workers: int) -> dict[str, Any]:
    """One `lingspec certify`."""
    with tempfile.TemporaryDirectory() as out:
        seconds, peak, done = watched(
            [*LINGSPEC, "certify", target, "--op", op, "--profile", profile, "-n", str(workers),
             "--seed", "0", "--out", out, "--json"],
        )  # fmt: skip
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"certify {target} --profile {profile} ended with {done.returncode}")
    told = json.loads(done.stdout)
    cases = sum(part["cases"] for part in told["parts"])
    return {
        "profile": profile, "workers": workers, "status": told["status"], "cases": cases,
        "seconds": seconds, "secondsPerCase": seconds / cases, "peakBytes": peak,
    }  # fmt: skip


def shares(op: str, target: str, profile: str) -> dict[str, Any]:
    """The candidate's calls beside the whole judgement, in this process."""
    of = contract(op)
    spent = {"calls": 0.0, "judgement": 0.0}
    with opened(Options(target=target, ops=(op,), profile=profile)) as host:
        host.call = timed(host.call, spent, "calls")  # type: ignore[method-assign]
        judge = timed(judge_case, spent, "judgement")
        cases = judged(host, of, profile, judge)
    return {
        "profile": profile, "cases": cases, **spent, "ratio": spent["judgement"] / spent["calls"],
    }  # fmt: skip


def judged(host: Host, of: Any, profile: str, judge: Callable[..., Any]) -> int:
    """The cases of a run, in order; how many they are."""
    count = 0
    for candidate in host.candidates:
        for part in parts(candidate, of) if candidate.op == of.op else ():
            for case in plan(of, laws_for(of), part.dtype, candidate.cost, profile, 0):
                judge(host, candidate, of, part.profile, case, power=case.law == "authority")
                count += 1
    return count


def timed(call: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    """``call``, its time added up."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - began

    return wrapped


def rejections(op: str, profile: str, sample: int) -> dict[str, Any]:
    """Seconds of judging from a mutant's first case to the one that breaks the law it names."""
    names = sorted(n for n, entry in mutants().items() if entry.declaration.op == op)
    command = [*LINGSPEC, "self-test", "--op", op, "--profile", profile, "--seed", "0", "--json"]
    for name in random.Random(0).sample(names, min(sample, len(names))):
        command += ["--only", name]
    seconds, peak, done = watched(command)
    if done.returncode not in (0, 1):
        raise SystemExit(f"self-test ended with {done.returncode}")
    rows = json.loads(done.stdout)
    times = [row["seconds"] for row in rows if row["ok"]]
    return {
        "profile": profile, "mutants": len(rows), "rejected": len(times), "seconds": seconds,
        "peakBytes": peak, "median": statistics.median(times) if times else None,
        "maximum": max(times, default=None),
        "survived": [row["name"] for row in rows if not row["ok"]],
    }  # fmt: skip


def lines(result: dict[str, Any]) -> list[str]:
    """The report for people."""
    told = [f"{result['op']}, target {result['target']}, {os.cpu_count()} cores"]
    for run in result["certify"]:
        told.append(
            f"certify {run['profile']} -n {run['workers']}: {run['status']}, {run['cases']} cases, "
            f"{run['seconds']:.1f} s, {run['secondsPerCase']:.2f} s a case, "
            f"peak {run['peakBytes'] / MIB:.0f} MiB in all processes"
        )
    share = result["shares"]
    told.append(
        f"one process, {share['profile']}, {share['cases']} cases: judging {share['judgement']:.1f}"
        f" s, of which calls of the candidate {share['calls']:.1f} s: {share['ratio']:.2f} times "
        "the calls alone"
    )
    row = result["rejections"]
    if row["median"] is not None:
        told.append(
            f"self-test {row['profile']}: {row['rejected']} of {row['mutants']} sampled mutants "
            f"rejected for what they name, median {row['median']:.2f} s, maximum "
            f"{row['maximum']:.2f} s from the first case"
        )
    if row["survived"]:
        told.append(f"not rejected for what they name: {', '.join(row['survived'])}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", default="lightning_attention")
    parser.add_argument("--target", default="kernels")
    parser.add_argument("--profile", action="append", choices=("smoke", "ci", "full"))
    parser.add_argument("-n", "--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=8, help="mutants of the self-test")
    parser.add_argument("--report", type=Path, help="folder for certify.json")
    options = parser.parse_args()
    profiles = options.profile or ["smoke", "ci"]
    result = {
        "schema": "lingspec.certify-cost/1", "op": options.op, "target": options.target,
        "environment": environment(),
        "certify": [certified(options.op, options.target, p, options.workers) for p in profiles],
        "shares": shares(options.op, options.target, profiles[0]),
        "rejections": rejections(options.op, profiles[-1], options.sample),
    }  # fmt: skip
    print("\n".join(lines(result)))
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "certify.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
