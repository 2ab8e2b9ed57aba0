"""The judge's side of a candidate: sends calls, reads results, notices crashes and hangs."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.runner.arena import Arena
from lingspec.conformance.runner.protocol import Closed, TimedOutError, plain, receive, send
from lingspec.conformance.runner.server import START_TIMEOUT, RunnerError, Server

__all__ = ["CandidateInfo", "Host", "Outcome", "RunnerError", "Server", "TargetRefused"]


# What a result may be made of; anything else is not read.
DTYPES = frozenset(
    name for name, x in vars(torch).items()
    if isinstance(x, torch.dtype) and not name.startswith(("q", "bits"))
)  # fmt: skip


class TargetRefused(RuntimeError):  # noqa: N818 - a refusal, reported as such
    """The target cannot be had; ``kind`` is ``usage`` or ``environment``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return TargetRefused, (self.kind, str(self))


@dataclass(frozen=True)
class CandidateInfo:
    """What a candidate declares, as its process told it."""

    index: int
    name: str
    op: str
    profile: str | dict[str, str] | None
    backward: bool
    array: str
    cost: str
    deterministic: bool
    batch_invariant: bool
    takes: list[tuple[str, int, bool]] | None  # name, kind of parameter, whether it has a default
    extra: dict[str, Any]


@dataclass
class Outcome:
    """What one call came to: ``ok``, ``wrong`` (not a result), ``crash`` or ``timeout``."""

    status: str
    outputs: list[Tensor] = field(default_factory=list)
    error: str = ""
    trace: str = ""
    shared: list[bool] = field(default_factory=list)
    device: list[str] = field(default_factory=list)
    changed: str | None = None  # an input, or memory around it, that is not what it was
    overwritten: str | None = None  # a result of the call before, which this one changed
    mutated: dict[str, Tensor] = field(default_factory=dict)


class Host:
    """One target in a process of its own, replaced whenever it dies."""

    def __init__(
        self, server: Server, target: str, op: str | None, *, precision: str | None = None,
        backward: bool = False, timeout: float = 60.0,
    ) -> None:  # fmt: skip
        self.server, self.target, self.op, self.precision = server, target, op, precision
        self.backward = backward
        self.timeout = timeout
        self.arena = Arena()
        self.sock: socket.socket | None = None
        self.pid = -1
        self.launches = 0  # of emulated kernels, by all calls
        self.modules = 0  # that the process has imported: more than before, more sources
        self.candidates: list[CandidateInfo] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the host
        self._start()

    def close(self) -> None:
        """End the candidate's process."""
        if self.sock is not None:
            self.sock.close()
            self.server.ended(self.pid, kill=True)
            self.sock = None
        self.arena.close()
        self._log.close()

    def supports(self, candidate: int, case: Mapping[str, Any]) -> bool | str:
        """What the candidate's `supports` says of a case: True, or why not."""
        request = {"do": "supports", "candidate": candidate, "case": dict(case)}
        reply = self._ask(request, self.timeout)
        if reply["status"] == "crash":  # it may have died of what an earlier call left behind
            reply = self._ask(request, self.timeout)
        if reply["status"] in ("usage", "environment"):
            raise TargetRefused("usage", f"{self.target}: {reply['error']}")
        if reply["status"] != "ok":
            raise TargetRefused("usage", f"supports() of {self.target!r} failed: {reply['error']}")
        answer = reply.get("answer")
        return True if answer is True else _one_line(str(answer or "refused"))

    def sources(self) -> list[tuple[str, str]]:
        """(module, file) of every source file of the target, as loaded now."""
        reply = self._ask({"do": "sources"})
        if reply["status"] != "ok":
            raise TargetRefused(
                "usage", f"sources of {self.target!r} cannot be told: {reply['error']}"
            )
        return [(m, f) for m, f in reply["sources"]]

    def call(
        self, candidate: int, tensors: Mapping[str, Tensor], params: Mapping[str, Any], *,
        positional: tuple[str, ...], outputs: tuple[str, ...],
        mutable: frozenset[str] = frozenset(),
        grad: tuple[str, ...] = (), cotangents: Mapping[str, Tensor] | None = None,
        poison: str = "nan", far: Mapping[str, int] | None = None,
    ) -> Outcome:  # fmt: skip
        """Call a candidate on copies of ``tensors`` (with their strides) in shared memory."""
        given = {**tensors, **(cotangents or {})}
        if self.sock is None:
            self._start()
        if self.arena.place(given, far or {}):
            try:
                self._share()
            except (Closed, TimedOutError):
                return self._lost()
        self.arena.fill(given)
        before = self.arena.snapshot()
        request = {
            "do": "call", "candidate": candidate, "params": plain(dict(params)), "poison": poison,
            "slots": [s.as_json() for s in self.arena.slots.values()], "used": self.arena.used,
            "positional": list(positional), "outputs": list(outputs), "grad": list(grad),
            "cotangents": list(cotangents or {}),
        }  # fmt: skip
        reply, payload = self._exchange(request)
        if reply["status"] != "ok":
            return Outcome(reply["status"], error=reply["error"], trace=reply.get("trace", ""))
        try:
            made = Outcome(
                "ok", _unpacked(reply["outputs"], payload),
                shared=[bool(o["shared"]) for o in reply["outputs"]],
                device=[str(o["device"]) for o in reply["outputs"]],
            )  # fmt: skip
            self.launches += int(reply["launches"])
            self.modules = int(reply["modules"])
            if reply["overwritten"]:
                made.overwritten = str(reply["overwritten"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            self._dead(kill=True)
            return Outcome("crash", error="the process sent results that cannot be read")
        made.changed = self.arena.changed(before, mutable)
        made.mutated = {name: self.arena.read(name) for name in mutable}
        return made

    # -- the process -------------------------------------------------------------------------

    def _start(self) -> None:
        self.sock, self.pid = self.server.fork(self._log.fileno())
        if self.arena.fd >= 0:
            self._share()
        reply = self._ask(
            {"do": "load", "target": self.target, "op": self.op, "backward": self.backward}
        )
        if reply["status"] in ("usage", "environment"):
            raise TargetRefused(reply["status"], reply["error"])
        if reply["status"] != "ok":
            raise TargetRefused(
                "usage", f"target {self.target!r} cannot be loaded: {reply['error']}"
            )
        self.candidates = [CandidateInfo(i, **c) for i, c in enumerate(reply["candidates"])]

    def _share(self) -> None:
        assert self.sock is not None
        nonce = secrets.token_hex(8)
        send(self.sock, {"do": "map", "size": self.arena.size, "nonce": nonce})
        socket.send_fds(self.sock, [b"m"], [self.arena.fd])
        receive(self.sock, START_TIMEOUT)

    def _ask(self, request: dict[str, Any], timeout: float = START_TIMEOUT) -> dict[str, Any]:
        if self.sock is None:
            self._start()
        return self._exchange(request, timeout)[0]

    def _exchange(
        self, request: dict[str, Any], timeout: float | None = None
    ) -> tuple[dict[str, Any], bytearray]:
        assert self.sock is not None
        nonce = secrets.token_hex(8)
        wait = self.timeout if timeout is None else timeout
        try:
            send(self.sock, {**request, "nonce": nonce})
            reply, payload = receive(self.sock, wait)
        except TimedOutError:
            self._dead(kill=True)
            return {"status": "timeout", "error": f"no result within {wait:g} s"}, bytearray()
        except Closed:
            lost = self._lost()
            return {"status": "crash", "error": lost.error, "trace": lost.trace}, bytearray()
        except ValueError:
            reply, payload = {}, bytearray()
        if not isinstance(reply, dict) or reply.get("nonce") != nonce:
            self._dead(kill=True)
            error = "the process sent an answer that was not asked for"
            return {"status": "crash", "error": error}, bytearray()
        told = {k: _printable(str(reply[k])) for k in ("status", "error", "trace") if k in reply}
        if "error" in told:
            told["error"] = _one_line(told["error"])
        return reply | told, payload

    def _lost(self) -> Outcome:
        """What a call comes to whose process is gone."""
        return Outcome(
            "crash", error=f"the process {self._dead(kill=False)}", trace=_printable(self._tail())
        )

    def _dead(self, *, kill: bool) -> str:
        assert self.sock is not None
        self.sock.close()
        self.sock = None
        return self.server.ended(self.pid, kill=kill)

    def _tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")


def _printable(text: str) -> str:
    """A candidate's words, without what would steer a terminal or break an XML file."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _one_line(text: str) -> str:
    """As much of a candidate's words as a report has room for."""
    line = " ".join(_printable(text).split())
    return line if len(line) <= 500 else f"{line[:500]}…"


def _unpacked(described: list[dict[str, Any]], payload: bytearray) -> list[Tensor]:
    outputs, at = [], 0
    for o in described:
        if o["dtype"] not in DTYPES:
            raise ValueError(f"results of dtype {o['dtype']}")
        dtype: torch.dtype = getattr(torch, o["dtype"])
        count = 1
        for n in o["shape"]:
            count *= n
        part = payload[at : at + count * dtype.itemsize]
        at += count * dtype.itemsize
        flat = torch.frombuffer(part, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        outputs.append(flat.reshape(o["shape"]))
    return outputs
