"""One case against one candidate of `candidates`, for tests of the suite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lingspec.conformance.contracts import contract
from lingspec.conformance.engine import judge_case
from lingspec.conformance.findings import Verdict
from lingspec.conformance.run import parts
from lingspec.conformance.runner.host import Host, Server

HERE = Path(__file__).parent
ATTENTION = contract("lightning_attention")
CASE = "lightning_attention:{law}.f32.B{B}.T5.H2.K8.V8.slopes.normal.{layout}{more}.1"


def case(law="authority", *, B=2, layout="dense", more=""):
    return ATTENTION.parse(CASE.format(law=law, B=B, layout=layout, more=more))


@contextmanager
def server_here() -> Iterator[Server]:
    """A fork server whose candidates can import the modules of this folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=":")
        patch.setattr(sys, "path", [str(HERE), *sys.path])
        server = Server()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def hosted(server: Server, target: str, timeout: float = 60.0) -> Iterator[Host]:
    host = Host(server, target, None, timeout=timeout)
    try:
        yield host
    finally:
        host.close()


def judged(host: Host, *cases) -> list[Verdict]:
    made = []
    for c in cases:
        of = contract(c.op)
        part = next(p for p in parts(host.candidates[0], of) if p.dtype == c.dtype)
        made.append(judge_case(host, part.candidate, of, part.profile, c))
    return made
