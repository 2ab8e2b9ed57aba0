"""The judge's side of a candidate: sends calls, reads results, notices crashes and hangs."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lingspec.conformance.case import Call
from lingspec.conformance.runner.alarm import Alarm
from lingspec.conformance.runner.arena import Arena
from lingspec.conformance.runner.outcome import CandidateInfo, Outcome, TargetRefused
from lingspec.conformance.runner.protocol import Closed, TimedOutError, digest, plain, receive, send
from lingspec.conformance.runner.results import one_line, printable, unpacked
from lingspec.conformance.runner.server import START_TIMEOUT, RunnerError, Server

__all__ = ["CandidateInfo", "Host", "Outcome", "RunnerError", "Server", "TargetRefused"]

HISTORY = 6  # calls that are remembered, with their inputs
LATE = 0.1  # seconds in which whoever still writes to a result has written to it
EACH = 4  # a process is given them once in so many requests at least, and at the first


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
        self.history: deque[tuple[int, Call]] = deque(maxlen=HISTORY)  # of this process
        self.tampered: list[str] = []  # not yet told by an outcome
        self._results: dict[str, str] = {}  # digests of what the last call returned
        self._alarm: Alarm | None = None
        self._returned = 0.0  # when the last call did
        self._hurried = 0  # requests to look late since this process last had the time
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the host
        self._start()

    def close(self) -> None:
        """End the candidate's process."""
        if self.sock is not None:
            self.sock.close()
            self.server.ended(self.pid, kill=True)
            self.sock = None
        if self._alarm is not None:
            self._alarm.close()
        self.arena.close()
        self._log.close()

    def renew(self) -> None:
        """A new process for what is asked next."""
        if self.sock is not None:
            self._dead(kill=True)

    def supports(self, candidate: int, case: Mapping[str, Any]) -> bool | str:
        """What the candidate's `supports` says of a case: True, or why not."""
        if not self.candidates[candidate].chooses:
            self._buried()
            return True
        request = {"do": "supports", "candidate": candidate, "case": dict(case)}
        reply = self._ask(request, self.timeout)
        if reply["status"] == "crash":  # it may have died of what an earlier call left behind
            reply = self._ask(request, self.timeout)
        if reply["status"] in ("usage", "environment"):
            raise TargetRefused("usage", f"{self.target}: {reply['error']}")
        if reply["status"] != "ok":
            raise TargetRefused("usage", f"supports() of {self.target!r} failed: {reply['error']}")
        answer = reply.get("answer")
        return True if answer is True else one_line(str(answer or "refused"))

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
        mutable: frozenset[str] = frozenset(), nested: Mapping[str, str] | None = None,
        grad: tuple[str, ...] = (), cotangents: Mapping[str, Tensor] | None = None,
        poison: str = "nan", far: Mapping[str, int] | None = None, config: int = 0,
        backward: bool = False,
    ) -> Outcome:  # fmt: skip
        """Call a candidate on copies of ``tensors`` (with their strides) in shared memory.

        ``config`` chooses, modulo their number, the configuration of emulated autotuned kernels;
        ``backward``, that the programs of emulated kernels run from the last to the first.
        """
        given = {**tensors, **(cotangents or {})}
        self._undisturbed()
        if self.sock is None:
            self._start()
        elif self._results and time.monotonic() - self._returned >= LATE:
            self._hurried = 0  # this call compares them
        if self.arena.place(given, far or {}):
            try:
                self._share()
            except (Closed, TimedOutError):
                return self._ended(self._lost())
        self.arena.fill(given)
        before = self.arena.snapshot()
        request = {
            "do": "call", "candidate": candidate, "params": plain(dict(params)), "poison": poison,
            "slots": [s.as_json() for s in self.arena.slots.values()], "used": self.arena.used,
            "positional": list(positional), "outputs": list(outputs), "grad": list(grad),
            "cotangents": list(cotangents or {}), "nested": dict(nested or {}), "config": config,
            "backward": backward,
        }  # fmt: skip
        reply, payload = self._exchange(request)
        if self.server.gone and self.sock is not None:
            self._dead(kill=True)
            reply = {"status": "crash", "error": "the call ended the server of processes"}
        if reply["status"] != "ok":
            failed = Outcome(reply["status"], error=reply["error"], trace=reply.get("trace", ""))
            return self._ended(failed)
        try:
            made = Outcome(
                "ok", unpacked(reply["outputs"], payload),
                shared=[bool(o["shared"]) for o in reply["outputs"]],
                device=[str(o["device"]) for o in reply["outputs"]],
            )  # fmt: skip
            self.launches += int(reply["launches"])
            self.modules = int(reply["modules"])
            made.overwritten = self._compared(reply["before"], reply["after"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            self._dead(kill=True)
            failed = Outcome("crash", error="the process sent results that cannot be read")
            return self._ended(failed)
        named = zip(outputs, made.outputs, made.shared, strict=False)
        self._results = {n: digest(_bytes(x)) for n, x, shared in named if not shared}
        made.changed = self.arena.changed(before, mutable)
        made.mutated = {name: self.arena.read(name) for name in mutable if name in self.arena.slots}
        self.arena.seal()
        self._returned = time.monotonic()
        return self._ended(made)

    def settle(self, *, late: bool = False) -> list[str]:
        """Look again at what the last call returned and was given: what happened to them since.

        ``late`` asks for `LATE` seconds before that. They are waited where the process had them
        neither between two calls nor at any of the last ``EACH - 1`` requests.
        """
        if late:
            self._hurried += 1
            if self._hurried >= EACH:
                time.sleep(LATE)
                self._hurried = 0
        if self._results and self.sock is not None:
            reply, _ = self._exchange({"do": "again"})
            if reply["status"] == "ok":
                self._compared(reply["before"], {})
        self._undisturbed()
        return self._told()

    def _compared(self, before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
        """Which of the last results the next call overwrote; a late change is tampering."""
        late = [n for n, was in self._results.items() if before.get(n, was) != was]
        self.tampered += [f"{n} changed after the call had returned it" for n in late]
        for name in late:  # told once
            del self._results[name]
        return next((n for n in self._results if n in after and after[n] != before.get(n)), None)

    def _undisturbed(self) -> None:
        if (place := self.arena.disturbed()) is not None:
            self.tampered.append(f"{place} was written to after the call had returned")

    def _told(self) -> list[str]:
        heard = self._alarm.heard() if self._alarm is not None else []
        told, self.tampered = [*self.tampered, *heard], []
        return [one_line(text) for text in dict.fromkeys(told)]

    def _ended(self, outcome: Outcome) -> Outcome:
        """With what there is to tell besides."""
        if outcome.status == "memory":  # what it holds on to would fail every later call
            self._dead(kill=True)
            limit = f"{self.server.memory / 2**30:.3g} GiB"
            outcome.status = "crash"
            outcome.error = f"out of memory: a process may take {limit} (--memory): {outcome.error}"
        outcome.tampered = self._told()
        return outcome

    # -- the process -------------------------------------------------------------------------

    def _start(self) -> None:
        self.history.clear()
        self._results = {}
        self._hurried = EACH - 1
        if self._alarm is not None:
            self._alarm.close()
        self._alarm = Alarm()
        try:
            self.sock, self.pid = self.server.fork(self._log.fileno(), self._alarm.write)
        finally:
            self._alarm.handed()
        if self.arena.fd >= 0:
            self._share()
        reply = self._ask(
            {"do": "load", "target": self.target, "op": self.op, "backward": self.backward}
        )
        if reply["status"] != "ok" and (told := self._told()):
            text = f"target {self.target!r} is REJECTED before it is called: {told[0]}"
            raise TargetRefused("integrity", text)
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
            return {"status": "forged", "error": error}, bytearray()
        told = {k: printable(str(reply[k])) for k in ("status", "error", "trace") if k in reply}
        if "error" in told:
            told["error"] = one_line(told["error"])
        return reply | told, payload

    def _buried(self) -> None:
        """A process that died since its last answer is none of the next call's."""
        if self.sock is None:
            return
        try:
            gone = not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            self._dead(kill=False)

    def _lost(self) -> Outcome:
        """What a call comes to whose process is gone."""
        return Outcome(
            "crash", error=f"the process {self._dead(kill=False)}", trace=printable(self._tail())
        )

    def _dead(self, *, kill: bool) -> str:
        assert self.sock is not None
        self.sock.close()
        self.sock = None
        self.tampered += self._alarm.heard() if self._alarm is not None else []
        return self.server.ended(self.pid, kill=kill)

    def _tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")


def _bytes(x: Tensor) -> bytes:
    return bytes(x.reshape(-1).view(torch.uint8).numpy())
