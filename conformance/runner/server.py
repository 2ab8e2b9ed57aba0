"""The fork server: imports what is heavy once, and makes a process for every candidate."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from lingspec.conformance.runner.protocol import Closed, TimedOutError, receive, send

__all__ = ["START_TIMEOUT", "RunnerError", "Server", "allowance"]

START_TIMEOUT = 120.0
SHARE = 0.75  # of the memory that is free when a run starts, for all candidates together
# What would tell a candidate who runs it. What it may need (paths, compilers, caches) stays.
TELLING = ("CI", "COV_", "COVERAGE_", "GITHUB_", "LINGSPEC_", "PYTEST_", "RUNNER_", "TOX_")
_BOOT = "__import__('lingspec.conformance.runner.zygote', fromlist=['main']).main({})\n"


class RunnerError(RuntimeError):
    """The environment cannot run candidates."""


def allowance(gib: float | None = None, candidates: int = 1) -> int:
    """Bytes that each of ``candidates`` may take: ``gib``, or a share of what is free now."""
    if gib is not None:
        return int(gib * 2**30)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError), Path("/proc/meminfo").open() as told:
        free = next(int(x.split()[1]) for x in told if x.startswith("MemAvailable")) * 1024
    return int(SHARE * free) // candidates


def environment() -> dict[str, str]:
    """The variables of a candidate's process: those of this one that do not tell who runs it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(TELLING)}
    return {**kept, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}


class Server:
    """The fork server process. One serves any number of hosts, one after another.

    ``memory`` bounds what a candidate's process may allocate, in bytes; on a GPU nothing does.
    """

    def __init__(
        self, device: str = "cpu", preload: str = "", reference: bool = False,
        memory: int | None = None,
    ) -> None:  # fmt: skip
        self.device = device
        self.memory = (allowance() if memory is None else memory) if device == "cpu" else 0
        self._prepare = {
            "device": device, "preload": [preload] if preload else [], "reference": reference,
            "memory": self.memory, "judge": os.getpid(),
        }  # fmt: skip
        self._environment = environment()
        self._launch()

    def _launch(self) -> None:
        mine, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        # From its input: neither the command line nor a file's name says what this is.
        self.process = subprocess.Popen(
            [sys.executable, "-"], pass_fds=[theirs.fileno()], env=self._environment,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(_BOOT.format(theirs.fileno()).encode())
        self.process.stdin.close()
        theirs.close()
        self.sock, self.ready = mine, False
        send(self.sock, self._prepare)

    @property
    def gone(self) -> bool:
        """Whether somebody ended the server; it does not end by itself."""
        return self.ready and self.process.poll() is not None

    def fork(self, log: int, alarm: int) -> tuple[socket.socket, int]:
        """A new process of the candidate: the socket that it serves, and its id.

        It writes to ``log`` and tells ``alarm``.
        """
        if self.gone:
            self._discard()
            self._launch()
        self._wait_until_ready()
        mine, theirs = socket.socketpair()
        send(self.sock, {"do": "fork"})
        receive(self.sock, START_TIMEOUT)
        socket.send_fds(self.sock, [b"f"], [theirs.fileno(), log, alarm])
        theirs.close()
        reply, _ = receive(self.sock, START_TIMEOUT)
        return mine, reply["pid"]

    def ended(self, pid: int, *, kill: bool) -> str:
        """Wait for a process that is gone, or end it: how it ended, in words."""
        try:
            send(self.sock, {"do": "reap", "pid": pid, "kill": kill})
            return str(receive(self.sock, START_TIMEOUT)[0]["ended"])
        except (Closed, OSError):  # TimedOutError is one
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            return "is gone with the fork server"

    def close(self) -> None:
        """End the server and with it every process that it made."""
        self._discard()

    def _discard(self) -> None:
        self.sock.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
        self._errors.close()

    def _wait_until_ready(self) -> None:
        if self.ready:
            return
        try:
            receive(self.sock, START_TIMEOUT)
        except (Closed, TimedOutError) as failed:
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise RunnerError(
                f"the candidate's process does not start: {''.join(last)}"
            ) from failed
        self.ready = True
