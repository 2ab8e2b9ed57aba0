"""Every honest variant on thousands of cases; none may be rejected. Resumable.

The authority of a case is computed once for all variants. Progress is kept in a file beside the
results, so that a run that was stopped goes on where it was.

    python benchmarks/deep.py [--cases 5000] [--seed 1] [--out lingspec-out/deep] [--op OP]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from lingspec.conformance import registry
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.plan import draw
from lingspec.conformance.run import laws_for, parts
from lingspec.conformance.runner.host import Host, Server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000, help="for each op")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("lingspec-out/deep"))
    parser.add_argument("--op", action="append", choices=OPS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for op in options.op or OPS:
        run(op, options.cases, options.seed, options.out / f"{op}-{options.seed}.json")


def run(op: str, cases: int, seed: int, state: Path) -> None:
    """The cases of one op that are left, over all honest variants."""
    done = (
        json.loads(state.read_text())
        if state.is_file()
        else {"next": 0, "worst": {}, "rejected": []}
    )
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
    began, first = time.monotonic(), done["next"]
    try:
        for n in range(first, cases):
            one(
                op, laws[n % len(laws)], groups[(n // len(laws)) % len(groups)], n, seed, work, done
            )
            done["next"] = n + 1
            if n % 20 == 19 or n + 1 == cases:
                save(state, done)
                rate = (n + 1 - first) / (time.monotonic() - began)
                print(
                    f"{op} {n + 1}/{cases}, {rate:.2f} cases/s, {len(done['rejected'])} rejected",
                    flush=True,
                )
    finally:
        save(state, done)
        for host in hosts.values():
            host.close()
        server.close()
    worst = sorted(done["worst"].items(), key=lambda item: -item[1])[:5]
    bad = len(done["rejected"])
    print(f"{op}: {done['next']} cases, {len(hosts)} variants, {bad} rejected")
    print(f"  worst errors, in their limits: {worst}")


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
    main()
