"""Triton kernels on a CPU, in the arithmetic of a GPU: the interpreter, mended from outside.

``install`` makes Triton run every kernel in its interpreter with bfloat16 and float16 as
on hardware, float32 ``dot`` in tf32, autotuned kernels with a chosen configuration, and
every access checked against live memory. ``uninstall`` puts everything back. Nothing of
Triton is imported before that.

    emulator.install()          # before the candidate is imported
    import candidate
    with emulator.watch([x]):
        candidate.run(x)
    assert emulator.launches() > 0

The programs of a launch run one after another, in the order of the grid or against it
(``select_order``): of races between programs it shows those that an order shows. The front end
runs for the first of them, others that do the same are played from a tape (`tape`).

What it does not show: other races between programs, races between warps, compiler bugs,
timing, shared memory and registers that run out, the contraction of a product and a sum
into one fma, the order in which a tensor core adds, the error of approximate ``exp``, a
variable that changes its type inside a loop, masked-off lanes of a load without ``other``
(they read 0; a GPU leaves them undefined). A float64 fma rounds twice under Triton 3.6.
Refused: 8-bit floats, ``dot_scaled``, inline assembly, ``:=`` inside an operand, and what
Triton's front end refuses.
A descriptor's float32 is rounded to nearest tf32 only where it says so
(``round_f32_to_tf32``, Triton 3.9), as on hardware; every other float32 product truncates.

Where torch rounds twice, this does not: an integer or a float64 goes to bfloat16 in one
step, as PTX's ``cvt.rn.bf16`` does.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .errors import EmulatorError, OutOfBounds, Refused
from .patches import Patches

if TYPE_CHECKING:
    import torch

__all__ = [
    "EmulatorError",
    "OutOfBounds",
    "Refused",
    "configs",
    "emulated",
    "forbid",
    "install",
    "install_on_import",
    "launches",
    "select_config",
    "select_order",
    "uninstall",
    "watch",
]

_VARIABLE = "TRITON_INTERPRET"


class _State:
    """What is installed, and what outlives it: the count of launches, the choice."""

    def __init__(self) -> None:
        self.patches: Patches | None = None
        self.variable: str | None = None
        self.hook: _TritonHook | None = None
        self.options: tuple[Any, ...] = ()
        self.emulator: Any = None
        self.launched = 0
        self.index = 0
        self.backward = False
        self.configs: dict[str, int] = {}


class _TritonHook(importlib.abc.MetaPathFinder):
    """Installs the emulator when ``triton`` has been imported, before its importer goes on."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "triton":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _InstallAfter(spec.loader, self._options)
        return spec


class _InstallAfter(importlib.abc.Loader):
    """Loads triton as its own loader does, then installs."""

    def __init__(self, loader: importlib.abc.Loader, options: dict[str, Any]) -> None:
        self._loader = loader
        self._options = options

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _unhook()
        install(**self._options)


_STATE = _State()


def install(*, sanitize_overflow: bool = False, capability: tuple[int, int] = (9, 0)) -> None:
    """Make every Triton kernel of this process run in the emulator.

    Args:
        sanitize_overflow: Raise where an integer of at most 32 bits overflows, instead of
            wrapping as hardware does. It doubles the time of integer arithmetic.
        capability: The compute capability of which the emulated device tells those who
            ask. Libraries choose kernels by it, and refuse some; arithmetic is the same.

    Raises:
        RuntimeError: it is installed already, with other options.
    """
    options = (capability, sanitize_overflow)
    if _STATE.patches is not None:
        if _STATE.options != options:
            raise RuntimeError(f"the emulator is installed with {_STATE.options}, not {options}")
        return
    _unhook()
    _set_variable()
    try:
        importlib.import_module("triton")
        language = importlib.import_module(f"{__name__}.language")
        patches = Patches()
        try:
            _STATE.emulator = language.patch(patches, _STATE, *options)
        except BaseException:
            patches.restore()
            raise
    except BaseException:
        _restore_variable()
        raise
    _STATE.patches, _STATE.options = patches, options


def uninstall() -> None:
    """Put every attribute and the environment back; do nothing if nothing is installed."""
    _unhook()
    if _STATE.patches is not None:
        _STATE.patches.restore()
        _STATE.patches = None
        _memory().forget()
    _restore_variable()


@contextmanager
def emulated(**options: Any) -> Iterator[None]:
    """Install with the options of ``install`` for a ``with`` block; nested, do nothing."""
    nested = _STATE.patches is not None
    install(**options)
    try:
        yield
    finally:
        if not nested:
            uninstall()


def install_on_import(**options: Any) -> None:
    """Install, with the options of ``install``, as soon as Triton is imported.

    At once if it has been; until then it costs nothing.
    """
    if "triton" in sys.modules:
        install(**options)
    elif _STATE.hook is None:
        _set_variable()
        _STATE.hook = _TritonHook(options)
        sys.meta_path.insert(0, _STATE.hook)


def launches() -> int:
    """Return how many kernels were launched in the emulator, in this process."""
    return _STATE.launched


def select_config(index: int | None) -> None:
    """Choose which configuration of every autotuned kernel runs from now on.

    Args:
        index: Counted from 0 in what the kernel's pruning leaves, modulo their number.
            None is the first.
    """
    _STATE.index = index or 0


def select_order(*, backward: bool) -> None:
    """Choose whether the programs of a launch run from the last to the first from now on.

    A GPU promises no order. Only kernels are run so that were launched before and had neither an
    atomic operation nor a ``while``: programs of others may wait for one another.
    """
    _STATE.backward = backward


def configs() -> dict[str, int]:
    """Return the autotuned kernels launched so far, each with its number of configurations.

    Where pruning depends on the arguments, the largest number seen.
    """
    return dict(_STATE.configs)


@contextmanager
def watch(tensors: "Sequence[torch.Tensor]") -> "Iterator[None]":
    """Let kernels touch the storages of ``tensors`` and of each launch's arguments only.

    Without it, they may also touch every tensor that an earlier launch was given and that
    still exists. Memory that a table of pointers among the arguments points into is live
    either way.
    """
    memory, group = _memory(), list(tensors)
    memory.watched.append(group)
    try:
        yield
    finally:
        memory.watched = [other for other in memory.watched if other is not group]


def forbid(ranges: Sequence[tuple[int, int]]) -> None:
    """Name the byte addresses, from the first to before the second, that no lane may touch.

    For the guard bands between tensors that share a storage. Replaces the ranges given
    before; an empty list lifts them all.
    """
    for start, end in ranges:
        if not 0 <= start <= end:
            raise ValueError(f"range has ends {(start, end)}, expected 0 <= start <= end")
    _memory().forbidden = sorted(ranges)


def _memory() -> Any:
    return importlib.import_module(f"{__name__}.memory").MEMORY


def _unhook() -> None:
    if _STATE.hook is not None:
        sys.meta_path.remove(_STATE.hook)
        _STATE.hook = None


def _set_variable() -> None:
    if _STATE.variable is None:
        _STATE.variable = os.environ.get(_VARIABLE, "")
        os.environ[_VARIABLE] = "1"


def _restore_variable() -> None:
    if _STATE.variable is not None:
        os.environ.pop(_VARIABLE)
        if _STATE.variable:
            os.environ[_VARIABLE] = _STATE.variable
        _STATE.variable = None
