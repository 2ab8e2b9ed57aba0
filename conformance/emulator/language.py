"""Everything that is set on Triton's modules while the emulator is on."""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.language import core, math, random, standard
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.language.semantic import TritonSemantic
from triton.runtime import autotuner, interpreter, jit
from triton.runtime.driver import driver

from . import reductions
from .autotuner import Choice
from .builder import Builder
from .device import Driver, cuda_answers
from .errors import StaticAssertion
from .launch import Emulator
from .patches import Patches
from .source import all_of, whole


def patch(
    patches: Patches, state: Any, capability: tuple[int, int], sanitize_overflow: bool
) -> Emulator:
    """Make Triton run every kernel in a new emulator, and return it."""
    target = GPUTarget("cuda", capability[0] * 10 + capability[1], 32)
    semantic = TritonSemantic(Builder(target, sanitize_overflow=sanitize_overflow))
    emulator = Emulator(semantic, state)
    choice = Choice(state)
    _patch_builtins(patches, emulator.semantic)
    _patch_language(patches, emulator)
    _patch_entries(patches, emulator, choice)
    _patch_libdevice(patches, emulator.semantic)
    patches.set_attr(driver, "_active", Driver(target))
    for name, answer in cuda_answers(capability).items():
        patches.set_attr(torch.cuda, name, answer)
    return emulator


def _patch_builtins(patches: Patches, semantic: Any) -> None:
    """Give every builtin the emulator's front end where the compiler would pass its own."""
    classes = {thing for thing in vars(core).values() if inspect.isclass(thing)}
    for owner in [tl, core, math, random, standard, *classes]:
        for name, member in list(vars(owner).items()):
            if inspect.isfunction(member) and core.is_builtin(member):
                patches.set_attr(owner, name, _bound(member, semantic))


def _bound(member: Callable[..., Any], semantic: Any) -> Callable[..., Any]:
    @functools.wraps(member)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("_semantic") is None:
            kwargs["_semantic"] = semantic
        return member(*args, **kwargs)

    return call


def _patch_language(patches: Patches, emulator: Emulator) -> None:
    """Set what a kernel uses by name: tensors as Python values, loops, reductions."""
    interpreter._patch_lang_core(tl, patches)
    interpreter._patch_lang_core(core, patches)
    interpreter._patch_lang_tensor(tl.tensor, patches)
    semantic = emulator.semantic
    patches.set_attr(tl.tensor, "__index__", lambda self: semantic.builder.ask(self.handle, whole))
    patches.set_attr(tl.tensor, "__bool__", lambda self: _truth(semantic, self))
    patches.set_attr(tl.tensor, "T", property(lambda self: semantic.permute(self, (1, 0))))
    for name, member in list(vars(tl.tensor).items()):
        if isinstance(member, jit.JITFunction | interpreter.InterpretedFunction):
            patches.set_attr(tl.tensor, name, _method(member))
    meaning = emulator.meaning
    for owner in (tl, core):
        patches.set_attr(owner, "range", lambda *bounds, **_: meaning.range(*bounds))
        patches.set_attr(owner, "static_assert", _static_assert)
        patches.set_attr(owner, "reduce", reductions.reduce)
        patches.set_attr(owner, "associative_scan", reductions.associative_scan)
    patches.set_attr(interpreter, "_get_np_dtype", _remembered(interpreter._get_np_dtype))
    patches.set_attr(interpreter, "interpreter_builder", emulator.builder)
    patches.set_attr(interpreter, "interpreter_semantic", emulator.semantic)


def _remembered(numpy_dtype: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the same function, which builds its whole table anew for each call, cached."""
    known: dict[str, Any] = {}

    def get(dtype: Any) -> Any:
        name = dtype.scalar.name
        if name not in known:
            known[name] = numpy_dtype(dtype)
        return known[name]

    return get


def _truth(semantic: Any, value: Any) -> bool:
    """Return a scalar's truth; a tile is an object like any other, as the front end expects."""
    if value.numel.value != 1:
        return True
    truth: bool = semantic.builder.ask(value.handle, all_of)
    return truth


def _method(function: Any) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    return call


def _static_assert(condition: Any, message: str = "", **_: Any) -> None:
    if not condition:
        raise StaticAssertion(f"static assertion failed: {message}")


def _patch_entries(patches: Patches, emulator: Emulator, choice: Choice) -> None:
    """Send launches and calls here, of functions jitted before the emulator was on too."""

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        emulator.run(self, *args, **kwargs)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return emulator.call(self, *args, **kwargs)

    def tuned(self: Any, *args: Any, **kwargs: Any) -> Any:
        return choice.run(self, *args, **kwargs)

    for owner in (jit.JITFunction, interpreter.InterpretedFunction):
        patches.set_attr(owner, "run", run)
        patches.set_attr(owner, "__call__", call)
    patches.set_attr(autotuner.Autotuner, "run", tuned)


def _patch_libdevice(patches: Patches, semantic: Any) -> None:
    """Fill the device library's names, which are empty until a backend is compiled for."""
    for name, member in list(vars(cuda_libdevice).items()):
        if isinstance(member, types.FunctionType) and core.is_builtin(member):
            bound = _bound(member, semantic)
            patches.set_attr(cuda_libdevice, name, bound)
            if hasattr(libdevice, name):
                patches.set_attr(libdevice, name, bound)
