"""The fork server: torch is imported once, and every candidate gets a fresh process from it.

Started by the judge with one socket. Each request carries the socket that the new process serves.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.abc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from lingspec.conformance.runner.protocol import Closed, receive, send

__all__ = ["main"]

# What the candidate's process may not see: what is right, and how it is judged.
BLOCKED = (
    "lingspec.reference",
    "lingspec.golden",
    "lingspec.conformance.accuracy",
    "lingspec.conformance.contracts",
    "lingspec.conformance.laws",
)


class _Blocker(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        if any(fullname == b or fullname.startswith(b + ".") for b in BLOCKED):
            raise ImportError(f"{fullname} is not to be had in a candidate's process")


def main() -> None:
    """Serve forks until the judge hangs up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], required=True)
    parser.add_argument("--preload", default="")
    parser.add_argument("--open", action="store_true", help="the reference is the candidate")
    options = parser.parse_args()
    sock = socket.socket(fileno=options.socket)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""

    import torch

    torch.set_num_threads(1)  # also what makes forking safe
    if not options.open:
        sys.meta_path.insert(0, _Blocker())
    if options.device == "cpu":
        from lingspec.conformance import emulator

        emulator.install_on_import()
    for module in filter(None, options.preload.split(",")):
        importlib.import_module(module)
    send(sock, {"status": "ready"})
    _serve(sock, options.device)


def _serve(sock: socket.socket, device: str) -> None:
    living: set[int] = set()
    while True:
        try:
            request, _ = receive(sock)
        except Closed:
            for pid in living:
                _kill(pid)
            return
        if request["do"] == "fork":
            send(sock, {"status": "ok"})
            _, fds, _, _ = socket.recv_fds(sock, 1, 2)
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                sock.close()
                _become_worker(fds[0], fds[1], device)
            living.add(pid)
            for fd in fds:
                os.close(fd)
            send(sock, {"status": "ok", "pid": pid})
        else:
            living.discard(request["pid"])
            send(sock, {"status": "ok", "ended": _reap(request["pid"], request["kill"])})


def _reap(pid: int, kill: bool) -> str:
    """How a worker ended, in words; what it started ends with it."""
    done, status = (0, 0) if kill else _wait(pid, seconds=5.0)
    _kill(pid, alive=not done)
    if not done:
        _, status = os.waitpid(pid, 0)
        return "was ended" if kill else "hung up and ran on"
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with {os.WEXITSTATUS(status)}"


def _kill(pid: int, *, alive: bool = True) -> None:
    """End the processes of a worker's group, and the worker itself if it is ``alive``."""
    for end in (os.killpg, os.kill) if alive else (os.killpg,):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)


def _wait(pid: int, seconds: float) -> tuple[int, int]:
    deadline = time.monotonic() + seconds
    done, status = os.waitpid(pid, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.01)
        done, status = os.waitpid(pid, os.WNOHANG)
    return done, status


def _become_worker(serving: int, log: int, device: str) -> Any:
    from lingspec.conformance.runner import poison
    from lingspec.conformance.runner.worker import Worker

    os.dup2(log, 1)
    os.dup2(log, 2)
    worker = Worker(socket.socket(fileno=serving), device=device)
    poison.install()
    code = 1
    try:
        worker.serve()
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
