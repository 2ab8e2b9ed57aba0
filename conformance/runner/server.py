"""The fork server: imports what is heavy once, and makes a process for every candidate."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile

from lingspec.conformance.runner.protocol import Closed, TimedOutError, receive, send

__all__ = ["START_TIMEOUT", "RunnerError", "Server"]

START_TIMEOUT = 120.0


class RunnerError(RuntimeError):
    """The environment cannot run candidates."""


class Server:
    """The fork server process. One serves any number of hosts, one after another."""

    def __init__(self, device: str = "cpu", preload: str = "", reference: bool = False) -> None:
        mine, theirs = socket.socketpair()
        command = [
            sys.executable, "-m", "lingspec.conformance.runner.zygote",
            f"--socket={theirs.fileno()}", f"--device={device}", f"--preload={preload}",
        ]  # fmt: skip
        if reference:
            command.append("--open")
        environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
        )  # fmt: skip
        theirs.close()
        self.sock, self.ready, self.device = mine, False, device

    def fork(self, log: int) -> tuple[socket.socket, int]:
        """A new process of the candidate: the socket that it serves, and its id."""
        self._wait_until_ready()
        mine, theirs = socket.socketpair()
        send(self.sock, {"do": "fork"})
        receive(self.sock, START_TIMEOUT)
        socket.send_fds(self.sock, [b"f"], [theirs.fileno(), log])
        theirs.close()
        reply, _ = receive(self.sock, START_TIMEOUT)
        return mine, reply["pid"]

    def ended(self, pid: int, *, kill: bool) -> str:
        """Wait for a process that is gone, or end it: how it ended, in words."""
        try:
            send(self.sock, {"do": "reap", "pid": pid, "kill": kill})
            return str(receive(self.sock, START_TIMEOUT)[0]["ended"])
        except (Closed, OSError):  # TimedOutError is one
            return "is gone with the fork server"

    def close(self) -> None:
        """End the server and with it every process that it made."""
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
