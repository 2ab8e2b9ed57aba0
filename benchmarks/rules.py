"""Comparison rules of other checkers, written from their descriptions, and ours.

A rule looks at one tensor and what is known about it, and accepts it or not. A run is accepted if
every tensor of it is. Every rule is given the most exact reference that its convention allows: the
float64 authority, rounded once to the dtype of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lingspec.conformance.accuracy.limits import Limits
from lingspec.conformance.accuracy.verdict import judge

__all__ = ["RULES", "Rule", "Sample"]


@dataclass(frozen=True)
class Sample:
    """One tensor of one run."""

    got: Tensor
    want: Limits  # the authority and our limits
    ref: Tensor  # the authority in the dtype that the result must have
    variants: Sequence[Tensor]  # of emulated honest implementations: ours only
    pairs: Tensor  # plain low precision, all pairs of tokens: FlashAttention's only
    tokens: Tensor  # plain low precision, token by token: FlashAttention's only
    low: bool  # whether the inputs are bfloat16

    @property
    def error(self) -> Tensor:
        """|got - ref| in float64."""
        return (self.got.double() - self.ref.double()).abs()


@dataclass(frozen=True)
class Rule:
    """One way to compare."""

    name: str
    text: str  # what it accepts
    accepts: Callable[[Sample], bool]
    typed: bool = False  # refuses another dtype

    def __call__(self, sample: Sample) -> bool:
        """Whether the rule lets the tensor pass. No rule lets another shape pass."""
        same = sample.got.dtype == sample.ref.dtype
        if sample.got.shape != sample.ref.shape or (self.typed and not same):
            return False
        return self.accepts(sample)


def allclose(s: Sample) -> bool:
    room = 1e-2 if s.low else 1e-4
    return torch.allclose(s.got, s.ref, rtol=room, atol=room)


def both_exceeded(s: Sample) -> bool:
    if not bool(s.got.isfinite().all()):
        return False
    relative = s.error / (s.ref.double().abs() + 1e-8)
    return not bool(((s.error > 1e-2) & (relative > 1e-2)).any())


def share_matched(s: Sample) -> bool:
    if not bool(s.got.isfinite().all()):
        return False
    matched = s.error <= 1e-2 + 1e-2 * s.ref.double().abs()
    return float(matched.double().mean()) >= 0.99


def rms_ratio(s: Sample) -> float:
    """RMSE over RMS of the reference."""
    rms = s.ref.double().square().mean().sqrt()
    return float(s.error.square().mean().sqrt() / (rms + 1e-8))


def ratio(s: Sample) -> bool:
    return float(s.error.max()) <= 1e-6 or rms_ratio(s) < 0.005


def ratio_in_ci(s: Sample) -> bool:
    return ratio(s) or rms_ratio(s) < 0.01 or float(s.error.max()) <= 0.3


def twice(s: Sample, baseline: Tensor) -> bool:
    moved = (s.ref + 0.3 - 0.3 - s.ref).double().abs().max()
    worst = (baseline.double() - s.ref.double()).abs().max()
    return bool(s.error.max() <= 2 * worst + 2 * moved)


def squared_difference(s: Sample) -> bool:
    x, y = s.got.double(), s.ref.double()
    total = (x.square() + y.square()).sum()
    return float(total) == 0 or float(1 - 2 * (x * y).sum() / total) < 1e-3


def cosine(s: Sample) -> bool:
    x, y = s.got.double(), s.ref.double()
    lengths = x.norm() * y.norm()
    return bool((x == y).all()) or float((x * y).sum() / lengths) > 0.99


def one_of_two(s: Sample) -> bool:
    worst = float(s.error.max())
    return worst < 5e-3 or worst / (float(s.ref.double().abs().max()) + 1e-12) < 5e-2


def usual_of_dtype(s: Sample) -> bool:
    try:
        torch.testing.assert_close(s.got, s.ref)
    except AssertionError:
        return False
    return True


def ours(s: Sample) -> bool:
    return judge(s.got, s.want, s.ref.dtype, s.variants) is None


RULES = (
    Rule(
        "KernelBench", "|e| <= a + a |ref| everywhere; a = 1e-2 for bf16 inputs, 1e-4 for float32",
        allclose, typed=True,
    ),
    Rule(
        "flashinfer-bench", "no element with both |e| > 1e-2 and |e| / |ref| > 1e-2",
        both_exceeded, typed=True,
    ),
    Rule(
        "SOL-ExecBench", "|e| <= 1e-2 + 1e-2 |ref| for at least 0.99 of the elements",
        share_matched, typed=True,
    ),
    Rule("fla", "RMS(e) / RMS(ref) < 0.005, or max |e| <= 1e-6", ratio),
    Rule(
        "fla in CI", "as fla; with FLA_CI_ENV=1 also if the ratio is < 0.01 or max |e| <= 0.3",
        ratio_in_ci,
    ),
    Rule(
        "FlashAttention (pairs)",
        "max |e| <= 2 max |baseline - ref| + 2 max |(ref + 0.3 - 0.3) - ref|; the baseline sums "
        "over all pairs of tokens in the dtype of the inputs",
        lambda s: twice(s, s.pairs),
    ),
    Rule(
        "FlashAttention (tokens)", "the same; the baseline goes token by token, its state likewise",
        lambda s: twice(s, s.tokens),
    ),
    Rule("calc_diff", "1 - 2 x·y / (|x|^2 + |y|^2) < 1e-3 (DeepGEMM, SGLang)",
         squared_difference),
    Rule("cosine", "x·y / (|x| |y|) > 0.99", cosine),
    Rule("cuLA", "max |e| < 5e-3, or max |e| / max |ref| < 5e-2", one_of_two),
    Rule(
        "assert_close", "|e| <= atol + rtol |ref| everywhere; torch.testing's defaults by dtype",
        usual_of_dtype, typed=True,
    ),
    Rule("lingspec", "the law `authority`: element limits, slices and gain", ours, typed=True),
)  # fmt: skip
