"""In the candidate's process: what it does that concerns the judge is refused, and told.

An audit hook cannot be taken away again; it sees what Python does, not what machine code does.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.util
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from lingspec.conformance.runner.alarm import raised

__all__ = ["BLOCKED", "Blocker", "Watch", "blocked_folders"]

# What the candidate's process may not see: what is right, and how it is judged.
BLOCKED = (
    "lingspec.reference",
    "lingspec.golden",
    "lingspec.conformance.accuracy",
    "lingspec.conformance.contracts",
    "lingspec.conformance.laws",
)
_NAMED = re.compile(r"lingspec\.(reference|golden)\b|\b(from|import)\s+lingspec\b")
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
_MEMORY = ("ptrace", "process_vm_readv", "process_vm_writev")
_PLAIN = ("stat", "statm", "status", "comm", "io")  # of another process, and tell nothing

# What carries results to the judge, and poison to the candidate. A name that a class inherits is
# absent from its own, and must stay so.
_OURS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (torch, ("empty", "empty_like", "empty_strided", "empty_permuted", "equal", "allclose",
             "isclose", "isfinite", "frombuffer")),
    (torch.Tensor, ("new_empty", "new_empty_strided", "__eq__", "__ne__", "equal", "allclose",
                    "isfinite", "cpu", "contiguous", "detach", "numpy", "reshape", "view",
                    "is_floating_point", "data_ptr", "numel")),
    (torch.testing, ("assert_close",)),
    (np, ("empty", "empty_like", "allclose", "array_equal")),
    (json, ("dumps", "loads")),
    (time, ("time", "monotonic", "perf_counter", "sleep")),
    (os, ("_exit", "getpid", "write", "read")),
    (socket.socket, ("send", "sendall", "recv", "recv_into")),
    (builtins, ("isinstance", "type", "zip", "len", "bytes")),
)  # fmt: skip


class Blocker(importlib.abc.MetaPathFinder):
    """Imports nothing of what is `BLOCKED`, and tells who has somebody to tell."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.tell = tell

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        """None: somebody else may find it.

        Raises:
            ImportError: nobody may.
        """
        if any(fullname == b or fullname.startswith(b + ".") for b in BLOCKED):
            if self.tell is not None:
                self.tell(f"the candidate asked for {fullname}")
            raise ImportError(f"{fullname} is not to be had in a candidate's process")


def blocked_folders() -> list[str]:
    """Where the blocked modules lie; to be asked before they are blocked."""
    found = [importlib.util.find_spec(name) for name in BLOCKED]
    places = [p for f in found if f is not None for p in f.submodule_search_locations or ()]
    return [os.path.realpath(place) + os.sep for place in places]


class Watch:
    """Over one process.

    ``judges`` are the processes that are not the candidate's; ``folders`` is where what is blocked
    lies, empty where the reference itself is the candidate.
    """

    def __init__(self, fd: int, judges: Sequence[int], folders: Sequence[str]) -> None:
        self._fd, self._judges, self._folders = fd, frozenset(judges), tuple(folders)
        self._blocker = Blocker(self.tell) if folders else None
        self._first: dict[tuple[int, str], Any] = {}

    def tell(self, text: str) -> None:
        """Tell the judge."""
        raised(self._fd, text)

    def install(self) -> None:
        """From now on: the blocker of imports, the audit hook, and the functions as they are."""
        if self._blocker is not None:
            sys.meta_path.insert(0, self._blocker)
        self._first = {(n, name): found for n, name, found in _functions()}
        kinds: dict[str, Callable[[Any], str | None]] = {
            "open": self._opened, "os.kill": self._killed, "os.killpg": self._killed,
            "ctypes.dlsym": self._looked_up, **dict.fromkeys(_STARTS, self._started),
        }  # fmt: skip

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            look = kinds.get(event)
            wrong = look(arguments) if look is not None else None
            if wrong is not None:
                raised(self._fd, f"the candidate {wrong}")
                raise PermissionError(f"{wrong}: not to be had in a candidate's process")

        sys.addaudithook(hook)

    def look(self) -> None:
        """Tell of every function of the judge's that is another than at first."""
        for n, name, found in _functions():
            if found is not self._first[n, name]:
                owner = getattr(_OURS[n][0], "__name__", "?")
                self.tell(f"the candidate replaced {owner}.{name}, which the judge relies on")
        if self._blocker is not None and self._blocker not in sys.meta_path:
            self.tell("the candidate took the judge's entry out of sys.meta_path")

    # -- events ------------------------------------------------------------------------------

    def _opened(self, arguments: Any) -> str | None:
        path = arguments[0]
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        named = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - resolves no link
        real = os.path.realpath(named)
        if real.startswith(self._folders):
            return f"opened {Path(real).name} of the reference or of the judge"
        match = re.match(r"/proc/(\d+)/(\w+)", named)
        if match and int(match[1]) in self._judges and match[2] not in _PLAIN:
            return f"opened {match[2]} of the judge's process"
        return None

    def _killed(self, arguments: Any) -> str | None:
        whom, signal = int(arguments[0]), int(arguments[1])
        ours = whom == -1 or abs(whom) in self._judges
        return f"sent signal {signal} to the judge's process" if ours and signal else None

    def _looked_up(self, arguments: Any) -> str | None:
        name = arguments[1] if len(arguments) > 1 else ""
        return f"looked up {name}, which reads other processes" if name in _MEMORY else None

    def _started(self, arguments: Any) -> str | None:
        text = " ".join(_words(arguments))
        watched = self._blocker is not None
        if watched and (_NAMED.search(text) or any(f in text for f in self._folders)):
            return "started a process on the reference"
        return None


def _functions() -> Iterator[tuple[int, str, Any]]:
    """Every name of `_OURS` and what it stands for now."""
    for n, (owner, names) in enumerate(_OURS):
        members = vars(owner)
        for name in names:
            yield n, name, members.get(name)


def _words(arguments: Any) -> Iterator[str]:
    """All text in the arguments of an event, as deep as lists of words go."""
    for x in arguments:
        if isinstance(x, (str, bytes, os.PathLike)):
            yield os.fsdecode(x)
        elif isinstance(x, (list, tuple)):
            yield from _words(x)
