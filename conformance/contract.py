"""What an op promises, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lingspec.conformance.case import Call, Case, CaseError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy
    from torch import Generator, Tensor

    from lingspec.conformance.accuracy.expected import Expected
    from lingspec.conformance.accuracy.limits import Limits
    from lingspec.conformance.accuracy.profiles import Profile

__all__ = ["Algebra", "Contract", "Group", "Machine", "Pick", "Relation", "Split", "TensorSpec"]

T = TypeVar("T")
Expectations = Mapping[str, "Expected"]
Values = dict[str, "Tensor"]

LARGEST = 1 << 20  # of an axis, in a case that a person writes


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a signature: its axes, and whose dtype it has."""

    name: str
    axes: str  # letters, as in the specification
    dtype: str  # "input", "state" (float32, float64 for float64), "index", or a dtype's own name
    optional: bool = False
    means: str = ""  # of indices: a key of `bad_input._MEANINGS`
    within: str = ""  # of indices: the axes whose sizes, multiplied, they stay below
    free: bool = False  # more axes, or fewer, may stand before the last


@dataclass(frozen=True)
class Group:
    """Arguments that scale, or are added to, together, and the results that do the same.

    An argument may be a part of one (`Contract.parts`). Other results stay as they are.
    """

    arguments: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """A call made of another, whose results are known from those of the other.

    ``kind`` is the law that asks: ``invariance`` (nothing changes, but for a known shift) or
    ``identities`` (the same thing, said otherwise). ``make`` returns None where the relation says
    nothing of a call. ``holds`` tells, of float64 results before and after, whether it is so: it is
    asked of the specification, in tests.
    """

    sentence: str
    kind: str
    make: Callable[[Call, Generator], Call | None]
    holds: Callable[[Values, Values, Call], bool]


class Machine(Protocol):
    """Requests that come, go on and end: calls whose inputs are what earlier ones left behind."""

    def rules(self) -> list[str]:
        """What can happen now."""

    def step(self, rule: str, g: Generator) -> tuple[str, Call | None]:
        """Let ``rule`` happen: in words, and the call that it needs."""

    def took(self, results: Mapping[str, Tensor]) -> None:
        """What the candidate returned for the call of the last step."""


@dataclass(frozen=True)
class Split:
    """Shards whose results add up to the whole: the call of one rank of several."""

    sentence: str
    shard: Callable[[Call, int, int], Call]  # the call, the rank, how many ranks


@dataclass(frozen=True)
class Algebra:
    """The properties that the op has, each of which a law checks. Axes are letters."""

    causal: str | None = None  # the axis along which no result looks ahead
    bitwise: bool = True  # the past has the same bits, not only the same numbers
    aligned: str | None = None  # the axis of keys whose last member belongs to the last of causal
    stateful: str | None = None  # the axis along which a call may be cut
    # The arguments that carry a state in, the results out: those that a call has.
    state: tuple[tuple[str, str], ...] = ()
    packed: str | None = None  # the axis along which sequences are laid end to end
    ends: Mapping[str, str] = field(default_factory=dict)  # by axis, the argument with their ends
    independent: tuple[str, ...] = ()  # axes whose members do not see each other
    homogeneous_in: tuple[Group, ...] = ()  # scaling the arguments scales the results
    linear_in: tuple[Group, ...] = ()  # adding in the arguments adds the results
    differentiable_in: tuple[str, ...] = ()
    shardable: tuple[str, ...] = ()  # axes of which a shard computes its slice
    unbiased: tuple[str, ...] = ()  # results whose roundings have no direction
    chain: tuple[str, str] | None = None  # the result that the next call takes, and as what
    exact: bool = False  # small integers and powers of two come out exactly
    bits: bool = False  # the bits of the result are the specification


class Pick(Protocol):
    """Chooses one member of a sequence; the first is the simplest."""

    def __call__(self, options: Sequence[T], /) -> T:
        """One of ``options``."""


@dataclass(frozen=True)
class Contract:
    """An op under contract.

    ``make`` turns a case into a call; ``authority`` computes, for a call and a profile, every
    output in float64 with its limits, ``gradients`` those of ``call.wrt`` for its cotangents;
    ``variants`` and ``gradient_variants`` compute them as emulated honest implementations would;
    ``draw`` makes a case of a law, at a cost class and in a dtype, out of picks.
    """

    op: str
    summary: str
    signature: str
    inputs: tuple[TensorSpec, ...]
    params: Mapping[str, str]
    outputs: tuple[TensorSpec, ...]
    positional: tuple[str, ...]
    mutable: frozenset[str]
    axes: Mapping[str, tuple[int, int]]
    traits: Mapping[str, tuple[str, ...]]
    flags: tuple[str, ...]
    algebra: Algebra
    profiles: Mapping[str, tuple[str, ...]]  # by dtype
    silent_on: tuple[str, ...]
    make: Callable[[Case], Call]
    authority: Callable[[Call, Profile], Expectations]
    variants: Callable[[Call, Profile], list[dict[str, Any]]]
    draw: Callable[[Pick, str, str, str], Case]
    laws: tuple[str, ...]
    # Results with the roundings of a profile, where none permits them: of what must be rejected.
    rounded: Callable[[Call, Profile], list[dict[str, Any]]] | None = None
    gradients: Callable[[Call, Profile], dict[str, Limits]] | None = None
    gradient_variants: Callable[[Call, Profile], list[dict[str, Any]]] | None = None
    exact: Callable[[Call, Profile], frozenset[str]] | None = None  # results without any rounding
    relations: Mapping[str, Relation] = field(default_factory=dict)
    splits: Mapping[str, Split] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # second half along an axis
    # Arguments named before a dot: "mapping" of the names behind it, an "object" with such fields,
    # or "objects", a list of them by number.
    nested: Mapping[str, str] = field(default_factory=dict)
    # Parts of a call that are on their own: by axis, which members.
    regions: Callable[[Call], list[dict[str, slice]]] | None = None
    machine: Callable[[Case], Machine] | None = None
    # By tensor, which elements are not read: True where there may be anything.
    unread: Callable[[Call], Mapping[str, Tensor]] | None = None
    # What `supports` is shown of a call besides its sizes and the traits of its case.
    told: Callable[[Call], Mapping[str, Any]] = field(default=lambda _: {})

    def strategy(self, law: str, cost: str, dtype: str) -> SearchStrategy[Case]:
        """The cases of a law as a Hypothesis strategy, for property tests."""
        from hypothesis import strategies as st

        @st.composite
        def cases(draw: st.DrawFn) -> Case:
            return self.draw(lambda options: draw(st.sampled_from(options)), law, cost, dtype)

        return cases()

    @property
    def results(self) -> tuple[str, ...]:
        """Names of what a call returns, where it is given all that it takes."""
        return tuple(o.name for o in self.outputs)

    def returned(self, call: Call) -> tuple[str, ...]:
        """Names of what ``call`` returns: an optional result only where it is also an argument."""
        return tuple(o.name for o in self.outputs if not o.optional or o.name in call.tensors)

    def parse(self, text: str) -> Case:
        """The case that ``text`` names.

        Raises:
            CaseError: a word is unknown, or one is missing, or a size is out of range.
        """
        op = text.partition(":")[0]
        if op != self.op:
            raise CaseError(f"case {text!r} is of {op}, but must be of {self.op}")
        case = Case.parse(text, self.traits, self.flags, self.laws)
        if case.lengths is not None and self.algebra.packed is None:
            raise CaseError(f"case {text!r} is packed, but {self.op} takes no packed sequences")
        told = {"B", *self.algebra.ends} if case.lengths is not None else set()  # by the lengths
        wanted = self.axes.keys() - told
        for axis in sorted(wanted ^ case.axes.keys()):
            fault = "lacks" if axis in wanted else "has, but must not have,"
            raise CaseError(f"case {text!r} {fault} axis {axis}")
        for axis, size in [*case.axes.items(), ("T", sum(case.lengths or ()))]:
            least = min(1, self.axes.get(axis, (0, 0))[0])
            if not least <= size <= LARGEST:
                raise CaseError(
                    f"case {text!r} has {axis} = {size}, but must have {least} to {LARGEST}"
                )
        return case
