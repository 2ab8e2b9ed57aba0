"""Precision profiles: the closed list of what a candidate may declare."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lingspec.conformance.accuracy.formats import BF16, FP16, FP32, FP64, TF32, Format

__all__ = [
    "DEFAULTS", "MODIFIERS", "NAMES", "OPERANDS", "SPECIFIED", "Profile", "UnknownProfileError",
    "profile",
]  # fmt: skip

OPERANDS = ("q", "k", "v", "do", "scores", "state_read", "operand")
# Where the specification itself rounds, to the dtype of the activations.
SPECIFIED = (
    "linear", "weights", "normed", "weighed", "gate", "residual", "rope", "rope_product", "rotated",
    "silu", "hidden", "activated", "expert",
)  # fmt: skip
TENSOR_CORE = (*OPERANDS, *SPECIFIED)
# And every other tensor that a plain 16-bit program would store.
EAGER = (*TENSOR_CORE, "decay", "product", "state", "qk", "scaled", "score")


class UnknownProfileError(ValueError):
    """A precision profile that is not in the list."""


@dataclass(frozen=True)
class Profile:
    """A list of permitted roundings.

    ``arithmetic`` is the format that sums and products are accumulated in, ``points`` the named
    points of the reference where an implementation may round, with the format of each.
    ``function_error`` is the relative error of exp and its like: 2^-22 covers the approximate
    units of GPUs.
    """

    name: str
    arithmetic: Format
    points: Mapping[str, Format] = field(default_factory=dict)
    function_error: float = 2.0**-22

    def describe(self, points: Collection[str] | None = None) -> str:
        """One sentence for people; of ``points`` alone, if they are given."""
        by_format: dict[str, list[str]] = {}
        for point, form in self.points.items():
            if points is None or point in points:
                by_format.setdefault(form.name, []).append(point)
        where = "; ".join(f"{form}: {', '.join(points)}" for form, points in by_format.items())
        rounded = f"; may round once each, to {where}" if where else ""
        return f"{self.arithmetic.name} arithmetic in any order{rounded}; one output rounding"


_BASE = {
    "fp64": Profile("fp64", FP64, function_error=2.0**-50),
    "fp32": Profile("fp32", FP32),
    "tf32": Profile("tf32", FP32, dict.fromkeys((*OPERANDS, "weights"), TF32)),
    "bf16-tc": Profile("bf16-tc", FP32, dict.fromkeys(TENSOR_CORE, BF16)),
    "fp16-tc": Profile("fp16-tc", FP32, dict.fromkeys(TENSOR_CORE, FP16)),
    "bf16-eager": Profile("bf16-eager", FP32, dict.fromkeys(EAGER, BF16)),
    "fp16-eager": Profile("fp16-eager", FP32, dict.fromkeys(EAGER, FP16)),
}
MODIFIERS: dict[str, tuple[tuple[str, ...], Format]] = {
    "state=bf16": (("state",), BF16),
    "state=fp16": (("state",), FP16),
    "scores=bf16": (("scores", "qk", "scaled"), BF16),
    "decay=bf16": (("decay",), BF16),
    # The scale in the query, which is rounded then: of softmax attention every score errs by it.
    "q=bf16": (("q", "query"), BF16),
    "q=fp16": (("q", "query"), FP16),
    # One-token steps in a 16-bit dtype: k v^T before it is added to a wide state. Of a product
    # that is added up of parts, each part.
    "product=bf16": (("product",), BF16),
    "product=fp16": (("product",), FP16),
    # A sigmoid in steps of 16 bits: an exponential, a sum, a quotient, a difference.
    "sigmoid=bf16": (("sigmoid",), BF16),
    "sigmoid=fp16": (("sigmoid",), FP16),
    # What the specification rounds, and nothing else.
    "spec=bf16": (SPECIFIED, BF16),
    "spec=fp16": (SPECIFIED, FP16),
}
NAMES = tuple(_BASE)
# The strictest profile that is usual for inputs of a dtype.
DEFAULTS = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}


def profile(name: str) -> Profile:
    """The profile called ``name``: one of `NAMES`, then any of `MODIFIERS` after ``+``.

    Raises:
        UnknownProfileError: there is none of that name.
    """
    base, *modifiers = name.split("+")
    if base not in _BASE:
        raise UnknownProfileError(
            f"no precision profile {base!r}; there are {', '.join(NAMES)}, "
            f"each with +{', +'.join(MODIFIERS)}"
        )
    points = dict(_BASE[base].points)
    for modifier in modifiers:
        if modifier not in MODIFIERS:
            raise UnknownProfileError(
                f"no modifier +{modifier}; there are +{', +'.join(MODIFIERS)}"
            )
        rounded, form = MODIFIERS[modifier]
        points |= dict.fromkeys(rounded, form)
    return Profile(name, _BASE[base].arithmetic, points, _BASE[base].function_error)
