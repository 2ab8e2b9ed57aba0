"""Which bytes a kernel may touch, and the check of every access against them."""

import weakref
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from .errors import OutOfBounds

Array = np.ndarray[Any, np.dtype[Any]]
Range = tuple[int, int]  # byte addresses, the end excluded


def storage_range(tensor: torch.Tensor) -> Range:
    """Return the addresses of everything that ``tensor``'s storage holds."""
    storage = tensor.untyped_storage()
    start = storage.data_ptr()
    return start, start + storage.nbytes()


def span(tensor: torch.Tensor) -> Range:
    """Return the addresses from a tensor's first element to the end of its last."""
    start = tensor.data_ptr()
    if tensor.numel() == 0:
        return start, start
    last = sum((n - 1) * abs(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def without(ranges: Iterable[Range], forbidden: list[Range]) -> list[Range]:
    """Return ``ranges`` less the ``forbidden`` ones, sorted, the empty ones dropped."""
    kept: set[Range] = set()
    for start, end in ranges:
        at = start
        for low, high in forbidden:  # sorted
            if high <= at or low >= end:
                continue
            kept.add((at, low))
            at = high
        kept.add((at, end))
    return sorted((low, high) for low, high in kept if low < high)


@dataclass
class Launch:
    """The kernel that runs, and its tensor arguments by name."""

    kernel: str
    tensors: list[tuple[str, torch.Tensor]]


class Memory:
    """The live ranges of the current launch.

    Live are the storages of the launch's tensors, of the watched tensors if any are
    watched, and else of every tensor seen in an earlier launch that still exists.
    """

    def __init__(self) -> None:
        self.forbidden: list[Range] = []
        self.watched: list[list[torch.Tensor]] = []
        self._seen: dict[int, tuple[weakref.ref[torch.Tensor], Range]] = {}
        self._launch: Launch | None = None
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._last: Range = (0, 0)

    @contextmanager
    def launch(self, kernel: str, tensors: list[tuple[str, torch.Tensor]]) -> Iterator[None]:
        """Make the memory of one launch live for the duration."""
        before = self._launch, self._starts, self._ends
        self._launch = Launch(kernel, tensors)
        live = {storage_range(tensor) for _, tensor in tensors}
        if self.watched:
            live |= {storage_range(t) for group in self.watched for t in group}
        else:
            live |= {held for ref, held in self._seen.values() if ref() is not None}
        self._see(tensors)
        self._set_live(live)
        try:
            yield
        finally:
            self._launch, self._starts, self._ends = before
            self._last = (0, 0)

    def check(self, op: str, address: Array, mask: Array, size: int, program: Any) -> None:
        """Raise OutOfBounds unless every active lane's ``size`` bytes are live."""
        active = address if mask.all() else address[np.broadcast_to(mask, address.shape)]
        if active.size == 0:
            return
        low, high = int(active.min()), int(active.max()) + size
        start, end = self._last
        if start <= low and high <= end:
            return
        i = bisect_right(self._starts, low) - 1
        if i >= 0 and high <= self._ends[i]:
            self._last = (self._starts[i], self._ends[i])
            return
        bad = self._stray(active.ravel(), size)
        if bad.size and self._adopt_pointer_tables(bad):
            bad = self._stray(active.ravel(), size)
        if bad.size:
            raise OutOfBounds(self._describe(op, bad, active.size, size, program))

    def forget(self) -> None:
        """Drop everything that was seen, watched or forbidden."""
        self.__init__()  # type: ignore[misc]

    def _see(self, tensors: list[tuple[str, torch.Tensor]]) -> None:
        for _, tensor in tensors:
            ref = weakref.ref(tensor, partial(self._unsee, id(tensor)))
            self._seen[id(tensor)] = (ref, storage_range(tensor))

    def _unsee(self, key: int, _: Any) -> None:
        self._seen.pop(key, None)

    def _set_live(self, live: Iterable[Range]) -> None:
        allowed = without(live, self.forbidden)
        self._starts = [start for start, _ in allowed]
        self._ends = [end for _, end in allowed]
        self._last = (0, 0)

    def _stray(self, active: Array, size: int) -> Array:
        """Return the addresses that lie in no live range."""
        if not self._starts:
            return active
        starts = np.array(self._starts, np.uint64)
        ends = np.array(self._ends, np.uint64)
        at = np.searchsorted(starts, active, side="right") - 1
        inside = (at >= 0) & (active + np.uint64(size) <= ends[np.maximum(at, 0)])
        return active[~inside]

    def _adopt_pointer_tables(self, bad: Array) -> bool:
        """Make live what a table of pointers among the arguments points into.

        An address is adopted with the storage of an existing tensor that holds it, and
        only if an int64 or uint64 argument holds an address of that same storage.
        """
        pointers = self._pointers()
        if not pointers.size:
            return False
        adopted = set()
        for start, end in _every_storage():
            touched = ((bad >= start) & (bad < end)).any()
            if touched and ((pointers >= start) & (pointers < end)).any():
                adopted.add((start, end))
        self._set_live(adopted | set(zip(self._starts, self._ends, strict=True)))
        return bool(adopted)

    def _pointers(self) -> Array:
        tables = [
            tensor.detach().contiguous().view(torch.int64).numpy().view(np.uint64).ravel()
            for _, tensor in (self._launch.tensors if self._launch else [])
            if tensor.dtype in (torch.int64, torch.uint64)
        ]
        return np.concatenate(tables) if tables else np.empty(0, np.uint64)

    def _describe(self, op: str, bad: Array, active: int, size: int, program: Any) -> str:
        kernel = self._launch.kernel if self._launch else "?"
        head = (
            f"kernel {kernel}, program {tuple(program)}: {bad.size} of {active} active lanes "
            f"{op} {size} bytes outside every live tensor"
        )
        guarded = sum(int(((bad >= low) & (bad < high)).sum()) for low, high in self.forbidden)
        if guarded:
            head += f", {guarded} of them in a guard band"
        nearest = self._nearest(bad)
        return f"{head}; {nearest}" if nearest else head

    def _nearest(self, bad: Array) -> str:
        found: list[tuple[int, str]] = []
        bad = bad.astype(np.int64)  # below address 0 is before every tensor
        first, last = int(bad.min()), int(bad.max())
        for name, tensor in self._launch.tensors if self._launch else []:
            start, end = span(tensor)
            what = f"{name}, shape {tuple(tensor.shape)}, {tensor.dtype}"
            above = bad[bad >= end]
            below = bad[bad < start]
            if above.size:
                distance = int(above.min()) - end
                found.append((distance, f"{distance} bytes after the end of {what}"))
            if below.size:
                distance = start - int(below.max())
                found.append((distance, f"{distance} bytes before the start of {what}"))
            if start <= last and first < end and not above.size and not below.size:
                found.append((0, f"across the end of {what}"))
        return "the nearest is " + min(found)[1] if found else ""


def _every_storage() -> set[Range]:
    import gc

    kinds = (torch.Tensor, torch.nn.Parameter)
    every = (thing for thing in gc.get_objects() if type(thing) in kinds)
    # A sparse tensor, or one of another backend, has no storage of its own.
    dense = (x for x in every if x.device.type == "cpu" and x.layout is torch.strided)
    return {storage_range(x) for x in dense}


MEMORY = Memory()
