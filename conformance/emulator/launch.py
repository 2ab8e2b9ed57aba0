"""One launch: arguments become what the compiled kernel would see, and every program runs."""

import inspect
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter, jit
from triton.tools.tensor_descriptor import TensorDescriptor

from .errors import EmulatorError, Refused
from .memory import MEMORY
from .source import Meaning, rewritten
from .tape import Tape

_GRID_LIMITS = (2**31 - 1, 65535, 65535)


class Emulator:
    """Runs jitted functions; counts launches in ``state.launched``."""

    def __init__(self, semantic: Any, state: Any) -> None:
        self.semantic = semantic
        self.builder = semantic.builder
        self.meaning = Meaning(semantic)
        self._state = state
        self._rewritten: dict[Any, Any] = {}
        self._params: dict[Any, dict[str, Any]] = {}
        self._free: dict[Any, bool] = {}  # kernels whose programs wait for no other

    def call(self, kernel: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a jitted function from another."""
        return self._python(kernel)(*args, **kwargs)

    def run(self, kernel: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        """Launch: what ``kernel[grid](*args, **kwargs)`` comes to."""
        if warmup:
            return
        for hook in getattr(kernel, "pre_run_hooks", ()):
            hook(*args, **kwargs)
        params = self._parameters(kernel)
        _check_options(kwargs, params)
        own = {name: value for name, value in kwargs.items() if name in params}
        bound = inspect.signature(kernel.fn).bind(*args, **own)
        bound.apply_defaults()
        host = _Host()
        values = {name: host.copy(value) for name, value in bound.arguments.items()}
        extent = _extent(grid(dict(bound.arguments)) if callable(grid) else grid)
        converted = {name: _argument(value, params[name]) for name, value in values.items()}
        tensors = [found for name, value in values.items() for found in _tensors(name, value)]
        self._state.launched += 1
        with MEMORY.launch(kernel.fn.__name__, tensors), np.errstate(all="ignore"):
            self._programs(kernel, extent, converted)
        host.write_back()

    def _programs(self, kernel: Any, extent: tuple[int, ...], arguments: dict[str, Any]) -> None:
        fn = self._python(kernel)
        tape = Tape(self.semantic, lambda: fn(**arguments))
        self.builder.set_grid_dim(*extent)
        tape.torn = math.prod(extent) == 1  # nothing to play again
        backward = self._state.backward and self._free.get(kernel.fn, False)
        self.meaning.waited = self.builder.waited = False
        try:
            for place in _places(extent, backward=backward):
                self.builder.set_grid_idx(*place)
                tape.program()
        except EmulatorError:
            raise
        except Exception as error:
            where = f"kernel {kernel.fn.__name__}, program {self.builder.grid_idx}"
            raise interpreter.InterpreterError(f"{where}: {error!r}") from error
        waited = self.meaning.waited or self.builder.waited
        self._free[kernel.fn] = not waited and self._free.get(kernel.fn, True)

    def _parameters(self, kernel: Any) -> dict[str, Any]:
        """Return the kernel's parameters by name, with what the launch specializes on."""
        if kernel.fn not in self._params:
            options = getattr(kernel, "kwargs", None) or vars(kernel)
            kept = set(options.get("do_not_specialize") or ())
            signature = inspect.signature(kernel.fn)
            self._params[kernel.fn] = {
                name: jit.KernelParam(i, param, bool(kept & {i, name}), False)
                for i, (name, param) in enumerate(signature.parameters.items())
            }
        return self._params[kernel.fn]

    def _python(self, kernel: Any) -> Any:
        fn = kernel.fn
        if fn not in self._rewritten:
            self._rewritten[fn] = rewritten(fn, self.meaning)
        return self._rewritten[fn]


def _places(extent: tuple[int, ...], *, backward: bool) -> Iterator[tuple[int, ...]]:
    """Every program of a grid, x fastest."""
    xs, ys, zs = (range(n)[::-1] if backward else range(n) for n in extent)
    return ((x, y, z) for z in zs for y in ys for x in xs)


class _Host:
    """Copies of device tensors in host memory; a tensor that is there already is itself."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def copy(self, value: Any) -> Any:
        if isinstance(value, tuple):
            items = [self.copy(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if isinstance(value, TensorDescriptor):
            copied = object.__new__(TensorDescriptor)
            copied.__dict__.update(value.__dict__, base=self.copy(value.base))
            return copied
        if isinstance(value, jit.TensorWrapper):
            return jit.TensorWrapper(self.copy(value.base), value.dtype)
        if not isinstance(value, torch.Tensor) or value.device.type == "cpu":
            return value
        storage = value.untyped_storage()
        _, there = self._copies.setdefault(storage.data_ptr(), (storage, _on_cpu(storage)))
        host = torch.empty(0, dtype=value.dtype)
        return host.set_(there, value.storage_offset(), value.size(), value.stride())

    def write_back(self) -> None:
        for device, host in self._copies.values():
            device.copy_(host)


def _on_cpu(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    copied: torch.UntypedStorage = storage.cpu()  # type: ignore[no-untyped-call] # torch's own
    return copied


def _argument(value: Any, param: Any) -> Any:
    """Return what the kernel sees: constants as they are, numbers as scalars of a type.

    A Python float is a float32 and an int the narrowest of int32, int64 and uint64. The
    int 1 is a constant unless the kernel says otherwise: the compiler specializes on it.
    """
    if isinstance(value, tl.constexpr):
        return value.value
    if param.is_constexpr or value is None:
        return value
    annotated = param.annotation_type
    if isinstance(value, tuple):
        items = [_argument(item, param) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if type(value) is int and value == 1 and not param.do_not_specialize and not annotated:
        return value
    if isinstance(value, bool | int | float):
        dtype = tl.str_to_ty(annotated, None) if annotated else _scalar_type(value)
        data = np.array([value]).astype(interpreter._get_np_dtype(dtype))
        return tl.tensor(interpreter.TensorHandle(data, dtype), dtype)
    return interpreter._implicit_cvt(value)


def _scalar_type(value: bool | int | float) -> Any:
    if isinstance(value, bool):
        return tl.int1
    if isinstance(value, float):
        return tl.float32
    if -(2**31) <= value < 2**31:
        return tl.int32
    if -(2**63) <= value < 2**63:
        return tl.int64
    if value < 2**64:
        return tl.uint64
    raise Refused(f"argument {value} fits no 64-bit integer")


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor in an argument, with a name for messages."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _tensors(f"{name}[{i}]", item)
    elif isinstance(value, TensorDescriptor | jit.TensorWrapper):
        yield from _tensors(name, value.base)


def _extent(grid: Any) -> tuple[int, ...]:
    """Return the grid with three dimensions, each within what a GPU launches."""
    sizes = tuple(int(n) for n in grid)
    if not 1 <= len(sizes) <= 3:
        raise Refused(f"grid {sizes} has {len(sizes)} dimensions, expected 1 to 3")
    for size, limit in zip(sizes, _GRID_LIMITS, strict=False):
        if not 0 <= size <= limit:
            raise Refused(f"grid {sizes} is outside a GPU's limits {_GRID_LIMITS}")
    return sizes + (1,) * (3 - len(sizes))


def _check_options(kwargs: dict[str, Any], params: dict[str, Any]) -> None:
    for name in ("num_warps", "num_ctas"):
        count = kwargs.get(name)
        if name not in params and count is not None and (count < 1 or count & (count - 1)):
            raise Refused(f"{name}={count}, expected a power of two")
