"""`lingspec self-test`: the suite against itself, and the matrix of what it did."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import random
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import click

from lingspec.conformance import text
from lingspec.conformance.contracts import OPS, contract
from lingspec.conformance.runner.host import TargetRefused
from lingspec.conformance.selftest import Row, run_self_test
from lingspec.conformance.verbs.progress import Tick, progress
from lingspec.conformance.workers import follow_parent

__all__ = ["self_test"]


def self_test(ops: tuple[str, ...], *, as_json: bool, given: dict[str, Any]) -> int:
    """`lingspec self-test`."""
    from lingspec.conformance import registry

    wanted: list[tuple[str, str, str]] = []
    for kind in registry.KINDS:
        for name, entry in registry.load(kind).items():
            if not given["only"] or any(part in name for part in given["only"]):
                wanted.append((entry.declaration.op, kind, name))
    for op in ops:
        contract(op)
    wanted = [w for w in wanted if not ops or w[0] in ops]
    if given["without"]:
        wanted = [w for w in wanted if given["without"] in _laws_of(w[1], w[2])]
    if given["sample"]:
        wanted = _sampled(wanted, given["sample"], given["seed"])
    if given["list_only"]:
        named = [{"kind": kind, "name": name, "op": op} for op, kind, name in wanted]
        lines = "\n".join(f"{kind}:{name}  {op}" for op, kind, name in wanted)
        click.echo(json.dumps(named) if as_json else lines)
        return 0
    if not wanted:
        raise TargetRefused("usage", _nobody(given))
    with progress(quiet=as_json, unit="targets") as tick:
        rows = _rows(wanted, given, tick)
    if given["without"]:
        return _power_of(given["without"], rows, as_json=as_json)
    survivors = [r for r in rows if r.kind == "mutants" and not r.ok]
    rejected = [r for r in rows if r.kind == "honest" and not r.ok]
    if as_json:
        click.echo(json.dumps([_row_data(r) for r in rows]))
    else:
        _matrix(rows)
        mutants = sum(r.kind == "mutants" for r in rows)
        click.echo(
            f"{mutants} mutants, {len(survivors)} survivors; "
            f"{len(rows) - mutants} honest variants, {len(rejected)} rejected"
        )
    return 1 if survivors or rejected else 0


def _laws_of(kind: str, name: str) -> tuple[str, ...]:
    """The laws that a mutant names."""
    from lingspec.conformance import registry

    return registry.mutants()[name].declaration.extra["laws"] if kind == "mutants" else ()


def _nobody(given: dict[str, Any]) -> str:
    if given["without"]:
        return f"no mutant, of those asked for, names a law {given['without']!r}"
    return f"no mutant or honest variant is called {', '.join(given['only'])}"


def _power_of(law: str, rows: list[Row], *, as_json: bool) -> int:
    """Which mutants live when a law is left out: those that no other law rejects."""
    alive = [r for r in rows if not r.broken]
    if as_json:
        click.echo(json.dumps([_row_data(r) for r in rows]))
        return 0 if alive else 1
    for r in sorted(rows, key=lambda r: (r.op, r.name)):
        other = f"rejected by {', '.join(r.broken)}" if r.broken else f"LIVES, {r.cases} cases"
        click.echo(f"{r.op}  mutants:{r.name}  {other}")
    click.echo(f"without {law}, {len(alive)} of the {len(rows)} mutants that name it live")
    return 0 if alive else 1


def _sampled(
    wanted: list[tuple[str, str, str]], count: int, seed: int
) -> list[tuple[str, str, str]]:
    picked = []
    for op in OPS:
        of = sorted(w for w in wanted if w[0] == op)
        picked += random.Random(f"{seed}/{op}").sample(of, min(count, len(of)))
    return picked


Job = tuple[str, list[tuple[str, str]], str, int, str]  # op, targets, profile, seed, without


def _rows(wanted: list[tuple[str, str, str]], given: dict[str, Any], tick: Tick) -> list[Row]:
    """Every op's targets, one job an op, which shares its authority; the largest ops first.

    An op with more than its worker's share is dealt out.
    """
    jobs: list[Job] = []
    share = len(wanted) / given["workers"]
    for op in OPS:
        names = [(kind, name) for of, kind, name in wanted if of == op]
        ways = min(given["workers"], math.ceil(len(names) / share))
        for n in range(ways):
            jobs.append((op, names[n::ways], given["profile"], given["seed"], given["without"]))
    jobs.sort(key=lambda job: -len(job[1]))
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    listener = threading.Thread(target=_listen, args=(told, tick, len(wanted)))
    listener.start()
    try:
        with ProcessPoolExecutor(given["workers"], context, _start, (told,)) as pool:
            futures = [pool.submit(_run, *job) for job in jobs]
            return list(itertools.chain.from_iterable(f.result() for f in futures))
    finally:
        told.put(None)
        listener.join()


_told: Any = None


def _start(told: Any) -> None:
    global _told
    follow_parent()
    _told = told


def _run(
    op: str, targets: list[tuple[str, str]], profile: str, seed: int, without: str
) -> list[Row]:
    def tell(done: int, cases: int) -> None:
        _told.put((f"{op} {targets[0]}", op, len(targets) * (done + 1) / cases))

    return run_self_test(op, targets, profile, seed, tell, without=without)


def _listen(told: Any, tick: Tick, total: int) -> None:
    """Add up how far all jobs are: an op's targets go through its cases together."""
    far: dict[str, float] = {}
    for key, op, done in iter(told.get, None):
        far[key] = done
        tick(int(sum(far.values())), total, op)


def _matrix(rows: list[Row]) -> None:
    for r in sorted(rows, key=lambda r: (r.op, r.kind, r.name)):
        if r.kind == "honest":
            said = (
                f"accepted, worst error {r.worst:.2g} of its limit"
                if r.ok
                else "REJECTED by " + ", ".join(r.broken)
            )
        else:
            at = ", ".join(f"{law} at case {n}" for law, n in r.broken.items())
            said = f"SURVIVED {r.expected[0]}; broke {at or 'nothing'}"
            if not r.answered:
                said = f"NEVER ANSWERED, in {r.cases} cases"
            if r.ok:
                said = f"killed by {at} ({r.seconds:.1f} s)"
        click.echo(f"{r.op}  {r.kind}:{r.name}  {said}")
        if r.first is not None and not r.ok:
            click.echo("\n".join(text.failure(r.first, text.again(f"{r.kind}:{r.name}"))))


def _row_data(row: Row) -> dict[str, Any]:
    return {
        "kind": row.kind, "name": row.name, "op": row.op, "ok": row.ok,
        "expected": list(row.expected), "broken": row.broken, "cases": row.cases,
        "answered": row.answered, "seconds": row.seconds, "worst": row.worst,
    }  # fmt: skip
