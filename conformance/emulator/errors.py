"""What the emulator raises about a kernel; everything else a kernel raises is its own."""


class EmulatorError(RuntimeError):
    """A launch that a GPU would refuse, or that does what a GPU leaves undefined."""


class OutOfBounds(EmulatorError):  # noqa: N818, the name is the interface's
    """An active lane touched memory that belongs to no live tensor, or a guard band."""


class Refused(EmulatorError):  # noqa: N818, likewise
    """Triton's compiler, or the launch on a GPU, refuses this."""


class StaticAssertion(Refused):
    """A ``tl.static_assert`` that does not hold; an autotuner skips such a configuration."""
