"""RMS norms that are right wherever small tests look; each breaks one law and no other."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._history import (
    Buffers,
    Tuned,
    as_if_dense,
    below_four,
    either,
    left_over,
    zero_is_one,
)
from lingspec.conformance.mutants._rows import (
    NARROW,
    Tensor,
    directed,
    estimated_root,
    fused,
    norm,
)

OP = "rms_norm"


@mutant(
    OP,
    law="homogeneity",
    source="constructed after F18 https://github.com/sgl-project/sglang/issues/32807",
    looks_like="weights of rows are held as fixed-point numbers below 4",
)
def holds_weights_of_rows_below_four(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, below_four(weight), eps=eps)


@mutant(
    OP,
    law="additivity",
    source="constructed after F19 https://github.com/1bit-MONSTER/1bit-MONSTER/issues/1154",
    looks_like="a weight of zero is taken for one that was not loaded",
)
def takes_a_weight_of_zero_for_one(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, zero_is_one(weight), eps=eps)


@mutant(
    OP,
    law="determinism",
    source="constructed",
    looks_like="the order of summation is chosen by a flag that nobody has set",
)
def chooses_the_order_by_an_unset_flag(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps, wide=either(left_over(2)))


tuned = Tuned()


@mutant(
    OP,
    law="shapes",
    source="constructed after L09",
    looks_like="other shapes in between change the configuration, and so the order of summation",
)
def tunes_itself_again_for_other_rows(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps, wide=either(tuned(x)))


@mutant(
    OP,
    law="permutation",
    batch_invariant=True,
    source="H13 https://github.com/vllm-project/vllm/issues/52104",
    looks_like="the number of rows chooses the order of summation, though none is said to",
)
def splits_rows_by_their_number(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=eps, wide=either(x.shape[:-1].numel() % 2))


buffers = Buffers()


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="the result lies in a buffer that the next call writes",
)
def returns_the_normalised_rows_in_one_buffer(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return buffers(norm(x, weight, eps=eps))


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="channels are taken to be neighbours in memory",
)
def takes_channels_for_neighbours(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(as_if_dense(x), weight, eps=eps)


@mutant(
    OP,
    law="exact",
    profile=NARROW,
    source="constructed after vrsqrte, whose result has eight bits",
    looks_like="the estimate of the root is not refined",
)
def estimates_the_root_with_eight_bits(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return fused(x, weight, eps=eps, inverse=estimated_root)


@mutant(
    OP,
    law="invariance",
    source="constructed after F16 https://github.com/mosaicml/llm-foundry/issues/371",
    looks_like="eps is kept in float16, whose smallest number is 6e-8",
)
def keeps_eps_above_the_smallest_of_float16(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(x, weight, eps=max(eps, 2.0**-24))


@mutant(
    OP,
    law="bias",
    profile=NARROW,
    source="F10 https://github.com/ROCm/aiter/issues/5151",
    looks_like="results are rounded toward zero more often than away from it",
)
def rounds_rows_toward_zero_too_often(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return fused(x, weight, eps=eps, store=directed(0.75))
