"""Frames between the judge and the candidate's process: a JSON header, then raw bytes.

Nothing that a candidate sends is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import select
import socket
import struct
import time
from typing import Any

import torch

__all__ = ["Closed", "TimedOutError", "digest", "plain", "receive", "restored", "send"]

_HEAD = struct.Struct("<II")
_LARGEST_HEADER = 1 << 24


def plain(x: Any) -> Any:
    """``x`` in words that JSON has: a dtype and a tuple under a name, others as they are."""
    if isinstance(x, torch.dtype):
        return {"torch.dtype": str(x).removeprefix("torch.")}
    if isinstance(x, tuple):
        return {"tuple": [plain(y) for y in x]}
    return {n: plain(y) for n, y in x.items()} if isinstance(x, dict) else x


def restored(x: Any) -> Any:
    """What `plain` was given.

    Raises:
        ValueError: no torch dtype has that name.
    """
    if not isinstance(x, dict):
        return x
    if x.keys() == {"torch.dtype"}:
        made = getattr(torch, str(x["torch.dtype"]), None)
        if not isinstance(made, torch.dtype):
            raise ValueError(f"no dtype {x['torch.dtype']!r}")
        return made
    if x.keys() == {"tuple"}:
        return tuple(restored(y) for y in x["tuple"])
    return {n: restored(y) for n, y in x.items()}


class Closed(ConnectionError):  # noqa: N818 - a state, not a mistake
    """The other side is gone."""


class TimedOutError(TimeoutError):
    """The other side did not answer in time."""


def send(sock: socket.socket, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    """Send one frame."""
    head = json.dumps(header).encode()
    try:
        sock.sendall(_HEAD.pack(len(head), len(payload)) + head)
        if len(payload):
            sock.sendall(payload)
    except (BrokenPipeError, ConnectionResetError) as gone:
        raise Closed from gone


def receive(sock: socket.socket, timeout: float | None = None) -> tuple[dict[str, Any], bytearray]:
    """Receive one frame.

    Raises:
        Closed: the other side closed the connection.
        TimedOutError: no whole frame came within ``timeout`` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    head_length, payload_length = _HEAD.unpack(_exactly(sock, _HEAD.size, deadline))
    if head_length > _LARGEST_HEADER:
        raise Closed
    header = json.loads(bytes(_exactly(sock, head_length, deadline)))
    return header, _exactly(sock, payload_length, deadline)


def digest(content: bytes | bytearray) -> str:
    """A name for the bytes of a result, on both sides."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _exactly(sock: socket.socket, length: int, deadline: float | None) -> bytearray:
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        wait = None if deadline is None else deadline - time.monotonic()
        if wait is not None and (wait <= 0 or not select.select([sock], [], [], wait)[0]):
            raise TimedOutError
        try:
            count = sock.recv_into(view[filled:])
        except ConnectionResetError as gone:
            raise Closed from gone
        if count == 0:
            raise Closed
        filled += count
    return data
