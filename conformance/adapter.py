"""`implements`: the few lines that give a candidate an op's signature.

Adapters are imported in the candidate's process, where the reference is blocked, so nothing here
imports it (or torch).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["ATTRIBUTE", "COSTS", "Declaration", "declarations", "implements"]

ATTRIBUTE = "__lingspec__"
COSTS = ("native", "interpreted")
ARRAYS = ("torch", "numpy", "dlpack")
EXTRA = frozenset({"laws", "source", "looks_like", "differs"})  # of mutants and honest variants
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declaration:
    """What a candidate says about itself; everything a run needs to know before it calls it."""

    op: str
    profile: str | Mapping[str, str] | None = None  # None: the strictest usual one per dtype
    backward: bool = False  # gradients flow through the result
    supports: Callable[[Any], bool | str] | None = None
    array: str = "torch"  # torch, numpy or dlpack
    cost: str | None = None  # None: interpreted where Triton runs in the emulator, else native
    deterministic: bool = True
    batch_invariant: bool = False
    nan_safe: bool = False
    packages: tuple[str, ...] = ()  # whose source files the digest covers, besides its own
    extra: Mapping[str, Any] = field(default_factory=dict)  # of mutants and honest variants


def implements(
    op: str,
    *,
    profile: str | Mapping[str, str] | None = None,
    backward: bool = False,
    supports: Callable[[Any], bool | str] | None = None,
    array: str = "torch",
    cost: str | None = None,
    deterministic: bool = True,
    batch_invariant: bool = False,
    nan_safe: bool = False,
    packages: tuple[str, ...] = (),
    **extra: Any,
) -> Callable[[F], F]:
    """Declare that the decorated function computes ``op``; the function itself is not changed.

    Args:
        op:              The op's name, as `lingspec ops` prints it.
        profile:         Where the candidate may round: a name that `lingspec ops OP` prints, for
                         all dtypes or as a mapping from dtype; a dtype left out is NOT SUPPORTED.
                         None means the strictest usual one: fp64, fp32, bf16-tc, fp16-tc.
        backward:        Whether gradients flow through the result.
        supports:        Called with a case (B, T, H, K, V, N, dtype, packed, has_state, grad and
                         the op's own axes; ``shortest``, the tokens of the shortest sequence,
                         where sequences may be packed; ``foreign``, whether an expert is -1);
                         True, or the reason why not. A refusal is NOT SUPPORTED; an exception
                         from the candidate is a CRASH.
        array:           ``torch``, ``numpy`` or ``dlpack``: what the function takes and returns.
        cost:            ``native`` or ``interpreted`` (shapes are chosen from it, never from the
                         clock). None: interpreted where Triton runs in the emulator.
        deterministic:   The same call gives the same bits.
        batch_invariant: A row alone is bitwise the row in a batch.
        nan_safe:        What is not read (rows behind a length, results without a key) may be NaN.
        packages:        Import packages whose source files the certificate's digest covers.
        extra:           Kept as it is, for mutants and honest variants.
    """
    _check(profile, array, cost, packages, extra)

    def decorate(function: F) -> F:
        declared = Declaration(
            op, profile, backward, supports, array, cost, deterministic, batch_invariant,
            nan_safe, tuple(packages), dict(extra),
        )  # fmt: skip
        known = getattr(function, ATTRIBUTE, ())
        setattr(function, ATTRIBUTE, (*known, declared))
        return function

    return decorate


def _check(
    profile: object, array: str, cost: str | None, packages: object, extra: Mapping[str, Any]
) -> None:
    """Refuse what nobody can have meant."""
    names = list(profile.values()) if isinstance(profile, Mapping) else [profile or ""]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"profile is {profile!r}, but must be a name or a mapping from dtype to name"
        )
    if array not in ARRAYS:
        raise ValueError(f"array is {array!r}, but must be one of {', '.join(ARRAYS)}")
    if cost is not None and cost not in COSTS:
        raise ValueError(f"cost is {cost!r}, but must be one of {', '.join(COSTS)}")
    if not isinstance(packages, (tuple, list)) or not all(isinstance(p, str) for p in packages):
        raise TypeError(f"packages is {packages!r}, but must be a tuple of names")
    unknown = extra.keys() - EXTRA
    if unknown:
        raise TypeError(f"implements() has no argument {', '.join(sorted(unknown))}")


def declarations(thing: object) -> tuple[Declaration, ...]:
    """The declarations that `implements` left on ``thing``; empty where there are none."""
    found = getattr(thing, ATTRIBUTE, ())
    return found if isinstance(found, tuple) else ()
