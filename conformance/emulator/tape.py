"""The programs of a launch, without the front end for those that do what an earlier one did.

The language's front end decides types and shapes, which are the same for every program, and
takes most of the time. So the calls that it makes on the builder are kept, as a tape: another
program makes the same calls in the same order on what is its own, and gets the bits that the
front end would have led to. A call that depends neither on the program nor on memory is made
once for all. Where a kernel's Python looks at a value (``if``, ``range``, an index), the tape
forks by what it saw. On a value that is new there, the front end runs again from the kernel's
first line, is given what the program has computed so far, and goes on from there; so it does
where a call raises, and the traceback leads into the kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from triton.runtime import interpreter

from .builder import Builder, Handle, Handles

Registers = list[Any]
Look = Callable[[Any], Any]

MOST_HELD = 1 << 26  # bytes that all programs share; what would be more, each makes for itself
MOST_CALLS = 50_000  # on one tape: longer programs are run by the front end

# Calls that may give something else with the same arguments.
_CHANGING = ("program_id", "load", "store", "atomic", "descriptor", "clock")


@dataclass(frozen=True)
class Event:
    """A call of the front end, or a look at a value."""

    name: str
    register: int
    gave: Any = None  # what was seen; of a call that every program makes, the dtypes of its result
    shared: bool = False


# What is called, the registers that it takes and gives, how many events were before it, and
# registers that nobody needs after it.
Step = tuple[Callable[..., Any], tuple[int, ...], int, int, list[int]]


@dataclass
class Stretch:
    """What happens from one look at a value to the next."""

    steps: list[Step] = field(default_factory=list)
    # One for each register of the stretch: what all programs share, None where a step gives it.
    held: Registers = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)  # registers, before the first step
    looks: tuple[int, Look] | None = None
    then: dict[Any, "Stretch"] = field(default_factory=dict)


class Tape:
    """Runs the programs of one launch: ``kernel()`` runs the front end."""

    def __init__(self, semantic: Any, kernel: Callable[[], Any]) -> None:
        self.builder: Builder = semantic.builder
        self.torn = False  # the front end saw what is not on the tape
        self.calls = self.bytes = 0
        self._semantic, self._kernel = semantic, kernel
        self._first: Stretch | None = None

    def program(self) -> None:
        """Run the program that the builder stands at."""
        if self.torn:
            self._kernel()
        elif self._first is None:
            self._first = Stretch()
            self._record(self._first, [], [])
        else:
            self._again(self._first)

    def _again(self, stretch: Stretch) -> None:
        registers: Registers = []
        known: list[Event] = []
        while True:
            registers += stretch.held
            for register in stretch.dropped:
                registers[register] = None
            step: Step | None = None
            try:
                for step in stretch.steps:
                    call, takes, gives, _, drops = step
                    registers[gives] = call(*[registers[i] for i in takes])
                    for register in drops:
                        registers[register] = None
            except Exception:
                before = step[3] if step else 0
                self._record(Stretch(), registers, known + stretch.events[:before])
                return
            if stretch.looks is None:
                return
            register, look = stretch.looks
            seen = look(registers[register].data)
            known += [*stretch.events, Event("look", register, seen)]
            if seen not in stretch.then:
                self._record(stretch.then.setdefault(seen, Stretch()), registers, known)
                return
            stretch = stretch.then[seen]

    def _record(self, onto: Stretch, registers: Registers, known: list[Event]) -> None:
        recorder = Recorder(self, onto, registers, known)
        self._semantic.builder = recorder
        try:
            self._kernel()
        finally:
            self._semantic.builder = self.builder
            recorder.done = True


class Recorder:
    """Stands where the front end expects the builder, and writes down what it is asked.

    The first calls are those that are ``known``: they have been made, and give what they gave.
    """

    def __init__(self, tape: Tape, onto: Stretch, registers: Registers, known: list[Event]) -> None:
        self.tape, self.registers, self.done = tape, registers, False
        self._onto, self._known, self._at = onto, known, 0
        self._places: dict[int, int] = {}  # registers of what all programs share, by identity

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.tape.builder, name)
        return partial(self._call, name, member) if callable(member) else member

    def ask(self, handle: Handle, look: Look) -> Any:
        """What the kernel's Python sees of a value."""
        if type(handle) is not _Own:
            return look(handle.data)
        if self._at < len(self._known):
            return self._next("look").gave
        seen = look(self.registers[handle.register].data)
        if not self.tape.torn:
            self._onto.looks = handle.register, look
            self._onto = self._onto.then.setdefault(seen, Stretch())
        return seen

    def release(self, register: int) -> None:
        """The front end holds a value no longer."""
        if self.done or self.tape.torn or self._at < len(self._known):
            return
        steps = self._onto.steps
        (steps[-1][4] if steps else self._onto.dropped).append(register)
        self.registers[register] = None

    def _next(self, name: str) -> Event:
        event = self._known[self._at]
        self._at += 1
        if event.name != name:
            raise AssertionError(f"the front end called {name}, and {event.name} before")
        return event

    def _call(self, name: str, member: Callable[..., Any], *args: Any, **named: Any) -> Any:
        changing = any(word in name for word in _CHANGING)
        if not changing and not any(map(_has_handle, (*args, *named.values()))):
            return member(*args, **named)
        if self._at < len(self._known):
            return self._shown(self._next(name))
        if self.tape.torn:
            return member(*args, **named)
        return self._made(name, _by_name(member, tuple(named)), (*args, *named.values()), changing)

    def _made(
        self, name: str, call: Callable[..., Any], args: tuple[Any, ...], changing: bool
    ) -> Any:
        """Make a call, and keep it."""
        self.tape.calls += 1
        before = len(self._onto.events)
        own = changing or any(map(_has_own, args)) or self.tape.bytes > MOST_HELD
        takes = tuple(self._taken(arg) for arg in args)
        result = call(*[self.registers[i] for i in takes])
        own = own or result is None
        gave = _dtypes(result)
        if self.tape.calls > MOST_CALLS or (own and gave is _OTHER):
            self.tape.torn = True
            return result
        register = self._add(result, own)
        parts = result if isinstance(result, tuple) else ()
        if own:
            self._step(call, takes, register, before)
        for n, part in enumerate(parts):
            at = self._add(part, own)
            if own:
                self._step(itemgetter(n), (register,), at, before)
        if own:  # neither a container nor a list of arguments is ever asked for again
            drops = [i for i in (*takes, register) if isinstance(self.registers[i], list | tuple)]
            self._onto.steps[-1][-1].extend(drops)
        event = Event(name, register, gave, not own)
        self._onto.events.append(event)
        return self._shown(event)

    def _step(
        self, call: Callable[..., Any], takes: tuple[int, ...], gives: int, before: int
    ) -> None:
        self._onto.steps.append((call, takes, gives, before, []))

    def _shown(self, event: Event) -> Any:
        """What the front end gets for a call."""
        if event.shared:
            return self._shared(event)
        if event.gave is None:
            return None
        if isinstance(event.gave, tuple):
            parts = enumerate(event.gave, event.register + 1)
            return tuple(_Own(self, register, dtype) for register, dtype in parts)
        return _Own(self, event.register, event.gave)

    def _shared(self, event: Event) -> Any:
        result = self.registers[event.register]
        parts = result if isinstance(result, tuple) else ()
        for register, part in enumerate((result, *parts), event.register):
            self._places[id(part)] = register
        return result

    def _taken(self, arg: Any) -> int:
        """The register of an argument."""
        if type(arg) is _Own:
            return arg.register
        if isinstance(arg, list | tuple):
            if not _has_own(arg):
                return self._add(arg[:], own=False)
            takes = tuple(self._taken(part) for part in arg)
            register = self._add(None, own=True)
            gather = _listed if isinstance(arg, list) else _tupled
            self._step(gather, takes, register, len(self._onto.events))
            self.registers[register] = gather(*[self.registers[i] for i in takes])
            return register
        if id(arg) not in self._places:
            self._places[id(arg)] = self._add(arg, own=False)
        return self._places[id(arg)]

    def _add(self, value: Any, own: bool) -> int:
        if not own and isinstance(value, Handles):
            value.data.setflags(write=False)  # all programs have it
            self.tape.bytes += value.data.nbytes if value.data.base is None else 0
        self.registers.append(value)
        self._onto.held.append(None if own else value)
        return len(self.registers) - 1


class _Own(Handles):  # type: ignore[misc] # Triton has no types
    """One program's own value, while the front end holds it: it is in a register.

    Whoever reads it behind the recorder's back tears the tape.
    """

    def __init__(self, recorder: Recorder, register: int, dtype: Any) -> None:
        self.recorder, self.register, self.dtype = recorder, register, dtype
        self.attr: dict[str, Any] = {}

    @property
    def data(self) -> np.ndarray[Any, Any]:
        self.recorder.tape.torn = True
        data: np.ndarray[Any, Any] = self.recorder.registers[self.register].data
        return data

    def __del__(self) -> None:
        self.recorder.release(self.register)


_OTHER = object()


def _dtypes(result: Any) -> Any:
    """The dtypes of a call's result: what is needed to show it to the front end again."""
    if result is None:
        return None
    if isinstance(result, tuple) and all(isinstance(part, Handles) for part in result):
        return tuple(part.dtype for part in result)
    return result.dtype if isinstance(result, Handles) else _OTHER


def _has_handle(arg: Any) -> bool:
    if isinstance(arg, list | tuple):
        return any(map(_has_handle, arg))
    return isinstance(arg, interpreter.TensorHandle | interpreter.TensorDescHandle)


def _has_own(arg: Any) -> bool:
    if isinstance(arg, list | tuple):
        return any(map(_has_own, arg))
    return type(arg) is _Own


def _by_name(member: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """``member``, whose last arguments are given in the order of ``names``."""
    if not names:
        return member

    def call(*args: Any) -> Any:
        split = len(args) - len(names)
        return member(*args[:split], **dict(zip(names, args[split:], strict=True)))

    return call


def _listed(*parts: Any) -> list[Any]:
    return list(parts)


def _tupled(*parts: Any) -> tuple[Any, ...]:
    return parts
