"""What the whole suite costs: all ops under certification, every mutant and honest variant.

Runs are those of its users; the share of a law is its time over that of all laws of the run.

    python benchmarks/suite.py [--target reference] [--profile smoke --profile ci] [-n 2]
                               [--self-test] [--report DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

LINGSPEC = [sys.executable, "-m", "lingspec.conformance"]


def timed(command: list[str]) -> tuple[float, subprocess.CompletedProcess[str]]:
    """The seconds that a command took, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run([*LINGSPEC, *command], capture_output=True, text=True, check=False)
    return time.perf_counter() - began, done


def certified(target: str, profile: str, workers: int) -> dict[str, Any]:
    """One run over all ops: its wall time, and where the time of its workers went."""
    with tempfile.TemporaryDirectory() as out:
        seconds, _ = timed(
            ["certify", target, "--profile", profile, "-n", str(workers), "--seed", "0",
             "--out", out]
        )  # fmt: skip
        told = json.loads((Path(out) / "results.json").read_text(encoding="utf-8"))
    laws: Counter[str] = Counter()
    ops: Counter[str] = Counter()
    cases = 0
    for part in told["parts"]:
        for verdict in part["record"]["verdicts"]:
            laws[verdict["law"]] += verdict.get("seconds", 0.0)
            ops[part["op"]] += verdict.get("seconds", 0.0)
            cases += 1
    return {
        "target": target, "profile": profile, "workers": workers, "status": told["status"],
        "seconds": seconds, "cases": cases, "laws": dict(laws.most_common()),
        "ops": dict(ops.most_common()),
    }  # fmt: skip


def self_tested(workers: int) -> dict[str, Any]:
    """Every mutant to its first killer, every honest variant on all cases of profile ci."""
    seconds, done = timed(["self-test", "-n", str(workers), "--json"])
    if done.returncode not in (0, 1):
        raise SystemExit(f"self-test ended with {done.returncode}: {done.stderr[-500:]}")
    rows = json.loads(done.stdout)
    kinds = Counter(row["kind"] for row in rows)
    ops: Counter[str] = Counter()
    for row in rows:
        ops[row["op"]] += row["seconds"]
    return {
        "seconds": seconds, "workers": workers, **kinds, "ops": dict(ops.most_common()),
        "wrong": [f"{row['kind']}:{row['name']}" for row in rows if not row["ok"]],
    }  # fmt: skip


def shares(seconds: dict[str, float], most: int = 5) -> str:
    """The largest shares, in words."""
    total = sum(seconds.values()) or 1.0
    return ", ".join(f"{name} {s / total:.0%}" for name, s in list(seconds.items())[:most])


def lines(result: dict[str, Any]) -> list[str]:
    """The report for people."""
    told = [f"{os.cpu_count()} cores"]
    for run in result["certify"]:
        told.append(
            f"certify {run['target']} --profile {run['profile']} -n {run['workers']}: "
            f"{run['status']}, {run['cases']} cases, {run['seconds']:.0f} s"
        )
        told.append(f"  laws  {shares(run['laws'])}")
        told.append(f"  ops   {shares(run['ops'])}")
    if row := result["selfTest"]:
        told.append(
            f"self-test -n {row['workers']}: {row['mutants']} mutants, {row['honest']} honest "
            f"variants, {len(row['wrong'])} of them not as they must be, {row['seconds']:.0f} s"
        )
        told.append(f"  ops   {shares(row['ops'])}")
        told += [f"  wrong {name}" for name in row["wrong"]]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="reference")
    parser.add_argument("--profile", action="append", choices=("smoke", "ci", "full"))
    parser.add_argument("-n", "--workers", type=int, default=2)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--report", type=Path, help="folder for suite.json")
    options = parser.parse_args()
    profiles = ([] if options.self_test else ["smoke"]) if not options.profile else options.profile
    result = {
        "schema": "lingspec.suite-cost/1",
        "certify": [certified(options.target, p, options.workers) for p in profiles],
        "selfTest": self_tested(options.workers) if options.self_test else None,
    }
    print("\n".join(lines(result)))
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "suite.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
