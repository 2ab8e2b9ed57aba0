"""Every honest variant on thousands of cases; none may be rejected. Resumable.

The authority of a case is computed once for all variants. Each worker takes every n-th case and
keeps its progress in a file, so that a run that was stopped goes on where it was, with the same
number of workers.

    python benchmarks/deep.py [--cases 5000] [--seed 1] [-n 1] [--out lingspec-out/deep] [--op OP]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from lingspec.conformance import registry
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.plan import draw
from lingspec.conformance.run import laws_for, parts
from lingspec.conformance.runner.host import Host, Server
from lingspec.conformance.workers import follow_parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000, help="for each op")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", "--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("lingspec-out/deep"))
    parser.add_argument("--op", action="append", choices=OPS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    rejected = 0
    for op in options.op or OPS:
        shares = [(w, options.workers) for w in range(options.workers)]
        states = [options.out / f"{op}-{options.seed}-{w + 1}of{n}.json" for w, n in shares]
        with ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
            started = [
                pool.submit(run, op, options.cases, options.seed, share, state)
                for share, state in zip(shares, states, strict=True)
            ]
            done = [s.result() for s in started]
        rejected += told(op, done)
    return 1 if rejected else 0


def told(op: str, done: list[dict]) -> int:
    """Print what became of an op; how many results were rejected."""
    worst: dict[str, float] = {}
    for part in done:
        for name, error in part["worst"].items():
            worst[name] = max(worst.get(name, 0.0), error)
    bad, cases = sum(len(p["rejected"]) for p in done), sum(p["done"] for p in done)
    highest = ", ".join(f"{n} {x:.2f}" for n, x in sorted(worst.items(), key=lambda i: -i[1])[:5])
    print(f"{op}: {cases} cases, {len(worst)} variants, {bad} rejected")
    print(f"  worst errors, in their limits: {highest}", flush=True)
    return bad


def run(op: str, cases: int, seed: int, share: tuple[int, int], state: Path) -> dict:
    """The cases of one worker that are left, over all honest variants of ``op``."""
    torch.set_num_threads(1)
    worker, workers = share
    mine = range(worker, cases, workers)
    done = {"done": 0, "worst": {}, "rejected": []}
    if state.is_file():
        done = json.loads(state.read_text())
    server = Server(preload="lingspec.conformance.registry")
    hosts = {
        name: Host(server, f"honest:{name}", op)
        for name, entry in registry.honest().items()
        if entry.declaration.op == op
    }
    work: dict[tuple[str, str], list[tuple[str, Host, object]]] = {}
    for name, host in hosts.items():
        for part in parts(host.candidates[0], contract(op)):
            work.setdefault((part.dtype, part.candidate.cost), []).append((name, host, part))
    groups, laws = list(work), laws_for(contract(op))
    began, first = time.monotonic(), done["done"]
    try:
        for n in mine[first:]:
            law, group = laws[n % len(laws)], groups[(n // len(laws)) % len(groups)]
            one(op, law, group, n, seed, work, done)
            done["done"] += 1
            if done["done"] % 20 == 0:
                save(state, done)
                rate = (done["done"] - first) / (time.monotonic() - began)
                bad = len(done["rejected"])
                far = f"{done['done']}/{len(mine)}, {rate:.2f} cases/s, {bad} rejected"
                print(f"{op} {worker + 1}of{workers} {far}", flush=True)
    finally:
        save(state, done)
        for host in hosts.values():
            host.close()
        server.close()
    return done


def one(op, law, group, n, seed, work, done) -> None:
    dtype, cost = group
    of = contract(op)
    case = draw(of, law, cost, dtype, seed, n + 1)
    memo: dict[str, object] = {}
    for name, host, part in work[group]:
        verdict = judge_case(host, part.candidate, of, part.profile, case, memo=memo)
        done["worst"][name] = max(done["worst"].get(name, 0.0), verdict.worst)
        if verdict.findings:
            finding = verdict.findings[0]
            done["rejected"].append([name, str(case), finding.law, finding.text, finding.got_want])
            print("REJECTED", *done["rejected"][-1], flush=True)


def save(state: Path, done: dict) -> None:
    """Whole or not at all."""
    part = state.with_suffix(".part")
    part.write_text(json.dumps(done, indent=1))
    part.replace(state)


if __name__ == "__main__":
    sys.exit(main())
