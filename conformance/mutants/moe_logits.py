"""Router logits that are rounded, cut or mixed up."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._memory import (
    another_way,
    as_if_rows,
    kept_buffer,
    on_the_object,
    remembered,
    scratch_is_set,
    sums,
)
from lingspec.conformance.mutants._products import Tensor, logits_of

OP = "moe_logits"
PROFILE = {"float32": "fp32", "bfloat16": "fp32", "float16": "fp32"}
FP32 = {"float32": "fp32"}


@mutant(
    OP, law="authority", profile=PROFILE,
    source="G07 https://github.com/sgl-project/sglang-jax/commit/73b00508",
    looks_like="logits are rounded to bfloat16",
)  # fmt: skip
def returns_logits_of_bfloat16(x: Tensor, weight: Tensor) -> Tensor:
    return logits_of(x, weight).to(torch.bfloat16).float()


@mutant(
    OP, law="authority", profile=PROFILE,
    source="G07 https://github.com/sgl-project/sglang-jax/commit/6b4c28bf",
    looks_like="logits have the dtype of the activations",
)  # fmt: skip
def returns_logits_in_the_dtype_of_the_rows(x: Tensor, weight: Tensor) -> Tensor:
    y = logits_of(x, weight)
    return y if x.dtype == torch.float32 else y.to(x.dtype)


@mutant(
    OP, law="authority", profile=PROFILE,
    source="constructed after G07",
    looks_like="every 16 channels are added up in float16",
)  # fmt: skip
def adds_channels_up_in_float16(x: Tensor, weight: Tensor) -> Tensor:
    y = torch.zeros(len(x), len(weight))
    for d in range(0, x.shape[1], 16):
        y = (y + logits_of(x[:, d : d + 16], weight[:, d : d + 16])).half().float()
    return y


@mutant(
    OP, law="authority", profile=FP32,
    source="constructed after A41 https://github.com/fla-org/flash-linear-attention/issues/389",
    looks_like="float32 operands are cut to tf32, and that is declared as fp32",
)  # fmt: skip
def cuts_operands_to_tf32(x: Tensor, weight: Tensor) -> Tensor:
    x, weight = ((t.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)
                 for t in (x, weight))  # fmt: skip
    return logits_of(x, weight)


@mutant(
    OP, law="authority", profile=PROFILE,
    source="constructed after I04 https://github.com/ml-explore/mlx/issues/3762",
    looks_like="channels behind the last whole 32 are left out",
)  # fmt: skip
def leaves_the_last_channels_out(x: Tensor, weight: Tensor) -> Tensor:
    D = x.shape[1] // 32 * 32 or x.shape[1]
    return logits_of(x[:, :D], weight[:, :D])


@mutant(
    OP, law="authority", profile=PROFILE,
    source="I10 https://github.com/vllm-project/vllm/issues/44110",
    looks_like="a square weight is taken for its transpose",
)  # fmt: skip
def transposes_a_square_weight(x: Tensor, weight: Tensor) -> Tensor:
    square = weight.shape[0] == weight.shape[1]
    return logits_of(x, weight.mT if square else weight)


@mutant(
    OP, law="untouched", profile=PROFILE,
    source="constructed after H04 https://github.com/linkedin/Liger-Kernel/commit/0f66f7ec",
    looks_like="experts behind the last whole 16 are never written",
)  # fmt: skip
def leaves_the_last_experts_unwritten(x: Tensor, weight: Tensor) -> Tensor:
    y = logits_of(x, weight)
    made, E = torch.empty_like(y), len(weight) // 16 * 16 or len(weight)
    made[:, :E] = y[:, :E]
    return made


@mutant(
    OP, law="authority", profile=PROFILE, source="constructed",
    looks_like="no tokens give one row",
)  # fmt: skip
def gives_logits_where_there_are_no_tokens(x: Tensor, weight: Tensor) -> Tensor:
    y = logits_of(x, weight)
    return y if len(y) else y.new_zeros(1, y.shape[1])


_results: dict[Any, Tensor] = {}


@mutant(
    OP, law="permutation", profile=PROFILE, source="constructed after caches keyed by a checksum",
    looks_like="results are kept under a checksum that does not know the order of rows",
)  # fmt: skip
def keeps_logits_under_a_sum_of_the_rows(x: Tensor, weight: Tensor) -> Tensor:
    key = sums(x, weight), x.dtype
    made: Tensor = remembered(_results, key, lambda: logits_of(x, weight))
    return made


def the_other_way(x: Tensor, weight: Tensor) -> Tensor:
    """The products summed in two halves: the even channels, then the odd ones."""
    even = logits_of(x[:, 0::2], weight[:, 0::2])
    return even + logits_of(x[:, 1::2], weight[:, 1::2])


@mutant(
    OP, law="determinism", profile=FP32,
    source="constructed after L09 https://github.com/fla-org/flash-linear-attention/commit/ebd4dd27",
    looks_like="the order of summation depends on memory that nobody has written",
)  # fmt: skip
def sums_channels_in_an_order_that_memory_decides(x: Tensor, weight: Tensor) -> Tensor:
    return (the_other_way if scratch_is_set() else logits_of)(x, weight)


_seen: set[Any] = set()


@mutant(
    OP, law="shapes", profile=FP32, source="constructed after autotuners that count calls",
    looks_like="the order of summation depends on which shapes were seen before",
)  # fmt: skip
def sums_channels_in_an_order_that_shapes_decide(x: Tensor, weight: Tensor) -> Tensor:
    other = another_way(_seen, (x.shape, weight.shape))
    return (the_other_way if other else logits_of)(x, weight)


_kept: dict[Any, Tensor] = {}


@mutant(
    OP, law="untouched", profile=PROFILE,
    source="constructed after the static outputs of captured graphs",
    looks_like="logits lie in a buffer that the next call writes",
)  # fmt: skip
def returns_logits_in_the_same_buffer(x: Tensor, weight: Tensor) -> Tensor:
    return kept_buffer(_kept, logits_of(x, weight))


@mutant(
    OP, law="strides", profile=PROFILE,
    source="constructed after H05 https://github.com/linkedin/Liger-Kernel/commit/780e76b8",
    looks_like="the channels of the weight are taken to lie side by side",
)  # fmt: skip
def takes_the_channels_to_lie_side_by_side(x: Tensor, weight: Tensor) -> Tensor:
    return logits_of(x, as_if_rows(weight))


@mutant(
    OP, law="homogeneity", profile=PROFILE, source="constructed",
    looks_like="logits are cut off at 10^7",
)  # fmt: skip
def cuts_logits_off_at_ten_million(x: Tensor, weight: Tensor) -> Tensor:
    return logits_of(x, weight).clamp(-1e7, 1e7)


@mutant(
    OP, law="additivity", profile={"float32": "fp32", "bfloat16": "fp32"},
    source="constructed after kernels for pruned weights",
    looks_like="a row of the weight that begins with 0 is taken for pruned",
)  # fmt: skip
def takes_rows_of_the_weight_with_a_zero_for_pruned(x: Tensor, weight: Tensor) -> Tensor:
    fractions = (weight != weight.round()).any(dim=1, keepdim=True)
    pruned = (weight[:, :1] == 0) & fractions
    return logits_of(x, weight * ~pruned)


@mutant(
    OP, law="exact", profile=FP32, source="constructed after approximate units",
    looks_like="sums are an ulp too large, or too small, in turn",
)  # fmt: skip
def misses_sums_by_an_ulp(x: Tensor, weight: Tensor) -> Tensor:
    y = logits_of(x, weight)
    way = torch.where(torch.arange(len(weight)) % 2 == 0, torch.inf, -torch.inf)
    return torch.nextafter(y, way) if x.shape[1] > 8 else y


@mutant(
    OP, law="sharding", profile=PROFILE, source="constructed after J02",
    looks_like="rows twice, or four times, as far apart as they are long are taken for fused ones",
)  # fmt: skip
def takes_shards_of_rows_for_fused_matrices(x: Tensor, weight: Tensor) -> Tensor:
    D = x.shape[1]
    if len(x) > 1 and D > 3 and x.stride(1) == 1 and x.stride(0) in (2 * D, 4 * D):
        x = x.roll(1, 0)
    return logits_of(x, weight)


@mutant(
    OP, law="invariance", profile=PROFILE, source="constructed after I13",
    looks_like="a row is kept in 36 bits below its largest channel",
)  # fmt: skip
def keeps_rows_in_one_fixed_point_format(x: Tensor, weight: Tensor) -> Tensor:
    largest = x.double().abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    step = 2.0 ** (largest.log2().floor() - 36)
    fixed = (x.double() / step).round() * step
    return (fixed @ weight.double().mT).float()


@mutant(
    OP, law="identities", profile=PROFILE, source="constructed",
    looks_like="experts are counted in 8 bits",
)  # fmt: skip
def counts_experts_in_eight_bits(x: Tensor, weight: Tensor) -> Tensor:
    return logits_of(x, weight[torch.arange(len(weight)) % 256])


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="the weight in float32 is kept on the tensor of the weight",
    profile=PROFILE,
)
def keeps_the_wide_weight_on_its_tensor(x: Tensor, weight: Tensor) -> Tensor:
    return logits_of(x, on_the_object(weight, weight.clone))
