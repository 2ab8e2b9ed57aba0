"""The fork server: torch is imported once, and every candidate gets a fresh process from it.

Started by the judge with one socket. Each request carries the socket that the new process serves.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import socket
import sys
import time
from typing import Any

from lingspec.conformance.runner.protocol import Closed, receive, send

__all__ = ["main"]


def main(serving: int) -> None:
    """Serve forks on the socket ``serving`` until the judge hangs up.

    What is to be prepared comes through the socket as well: the command line says nothing.
    """
    sock = socket.socket(fileno=serving)
    options, _ = receive(sock)
    if options["device"] == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""

    import torch

    from lingspec.conformance.runner.watch import Blocker, blocked_folders

    torch.set_num_threads(1)  # also what makes forking safe
    options["folders"] = [] if options["reference"] else blocked_folders()
    if not options["reference"]:
        sys.meta_path.insert(0, Blocker())
    if options["device"] == "cpu":
        from lingspec.conformance import emulator

        emulator.install_on_import()
    for module in options["preload"]:
        importlib.import_module(module)
    send(sock, {"status": "ready"})
    _serve(sock, options)


def _serve(sock: socket.socket, options: dict[str, Any]) -> None:
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
            _, fds, _, _ = socket.recv_fds(sock, 1, 3)
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                sock.close()
                serving, log, alarm = fds
                _become_worker(serving, log, alarm, options)
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


def _become_worker(serving: int, log: int, alarm: int, options: dict[str, Any]) -> Any:
    from lingspec.conformance.runner import poison
    from lingspec.conformance.runner.watch import Watch
    from lingspec.conformance.runner.worker import Worker

    os.dup2(log, 1)
    os.dup2(log, 2)
    judges = (os.getppid(), options["judge"])
    poison.install()
    watch = Watch(alarm, judges, options["folders"])
    worker = Worker(socket.socket(fileno=serving), options["device"], watch)
    if options["memory"]:
        resource.setrlimit(resource.RLIMIT_DATA, (options["memory"], options["memory"]))
    watch.install()
    code = 1
    try:
        worker.serve()
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
