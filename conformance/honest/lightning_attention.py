"""Right lightning attention in many forms.

Roundings are taken only where bf16-tc and fp16-tc allow them: `narrow` rounds an operand of a
matrix product once to the dtype of the inputs, and is exact for float32 and float64 inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from lingspec.conformance.honest import honest
from lingspec.conformance.mutants._lightning import (
    Result,
    Steps,
    Tensor,
    by_sequence,
    chunked,
    distances,
    keep,
    one_chunk,
    pair,
    read,
    recurrent,
    steps,
    write,
)
from lingspec.conformance.mutants._lightning_backward import two_pass

OP = "lightning_attention"


def narrow(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """One rounding to ``dtype``, back in the dtype of the argument."""

    def rounding(x: Tensor) -> Tensor:
        return x.to(dtype).to(x.dtype)

    return rounding


@honest(OP, backward=True, differs="the recurrence in float32, differentiated by autograd")
def runs_token_by_token(*call: Any, **options: Any) -> Result:
    return recurrent(*call, **options)


@honest(OP, backward=True, differs="chunks of 64, float32 inside, differentiated by autograd")
def runs_in_chunks_of_64(*call: Any, **options: Any) -> Result:
    return chunked(*call, **options)


@honest(OP, differs="chunks of 16; every operand of a product is rounded, the carried state is not")
def rounds_every_operand_in_chunks_of_16(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=16, operand=narrow(q.dtype))


@honest(OP, backward=True, differs="chunks of 32; the backward pass is written by hand, float32")
def differentiates_by_hand_in_chunks_of_32(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, chunk=32)


@honest(OP, differs="chunks of 48, which divide no usual length; the scores alone are rounded")
def rounds_the_scores_in_chunks_of_48(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=48, scores=narrow(q.dtype))


@honest(OP, differs="chunks of 64; every operand of a product is rounded")
def rounds_every_operand_in_chunks_of_64(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, operand=narrow(q.dtype))


@honest(OP, differs="chunks of 100")
def runs_in_chunks_of_100(*call: Any, **options: Any) -> Result:
    return chunked(*call, **options, chunk=100)


@honest(OP, differs="chunks of 128; every operand of a product is rounded")
def rounds_every_operand_in_chunks_of_128(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=128, operand=narrow(q.dtype))


@honest(OP, backward=True, differs="chunks of 256 and a backward pass by hand in chunks of 256")
def runs_in_chunks_of_256(*call: Any, **options: Any) -> Result:
    return two_pass(*call, **options, chunk=256)


@honest(OP, differs="one chunk as long as the sequence: the closed form over all pairs")
def sums_over_all_pairs_at_once(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=max(1, q.shape[1]))


@honest(OP, differs="float64 inside, one rounding at the end")
def computes_in_float64_and_rounds_once(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor,
    *, initial_state: Tensor | None = None, **options: Any,
) -> Result:  # fmt: skip
    wide = (x.double() for x in (q, k, v, log_decay))
    start = None if initial_state is None else initial_state.double()
    o, state = chunked(*wide, initial_state=start, **options)
    return o.to(q.dtype), state.to(log_decay.dtype)


@honest(OP, differs="the decay to the end of the chunk is folded into v, not into k; v is rounded")
def folds_the_decay_into_the_values(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    factor = narrow(q.dtype)

    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        dtype, g = q.dtype, log_decay.to(S.dtype)
        outputs = [v[:, :0]]
        for start in range(0, q.shape[1], 64):
            here = slice(start, start + 64)
            q_c, k_c, v_c = (x[:, here].to(S.dtype).transpose(1, 2) for x in (q, k, v))
            C = q_c.shape[2]
            added = k_c.mT @ factor(v_c * write(g, C)[:, :, None])
            o, _ = one_chunk(q_c, k_c, v_c, S, g, scale, Steps(operand=factor))
            S = keep(g, C)[:, None, None] * S + added
            outputs.append(o.transpose(1, 2).to(dtype))
        return torch.cat(outputs, dim=1), S

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@honest(OP, differs="the decay is folded into q, which is rounded, before it reads the state")
def folds_the_decay_into_the_queries(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    factor = narrow(q.dtype)
    without_state = Steps(read=lambda g, C: 0 * read(g, C))

    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        g, dtype = log_decay.to(S.dtype), q.dtype
        outputs = [v[:, :0]]
        for start in range(0, q.shape[1], 32):
            here = slice(start, start + 32)
            q_c, k_c, v_c = (x[:, here].to(S.dtype).transpose(1, 2) for x in (q, k, v))
            decayed = factor(q_c * read(g, q_c.shape[2])[:, :, None])
            from_state = decayed @ factor(S) * scale
            within, S = one_chunk(q_c, k_c, v_c, S, g, scale, without_state)
            outputs.append((within + from_state).transpose(1, 2).to(dtype))
        return torch.cat(outputs, dim=1), S

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@honest(OP, differs="q is multiplied by the scale and rounded before anything else")
def scales_and_rounds_the_queries_first(
    q: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    wide = torch.promote_types(q.dtype, torch.float32)
    return chunked((q.to(wide) * scale).to(q.dtype), *call, scale=1.0, **options, chunk=32)


@honest(OP, differs="decays are powers of two: exp2 of the log decay over ln 2")
def decays_with_exp2(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:  # fmt: skip
    def pair2(g: Tensor, C: int) -> Tensor:
        distance = distances(C, g)
        return torch.exp2(per_two(g)[:, None, None] * distance.clamp(min=0)) * (distance >= 0)

    def per_two(g: Tensor) -> Tensor:
        return (g.double() / math.log(2)).to(g.dtype)

    return chunked(
        q, k, v, log_decay, **options,
        pair=pair2,
        read=lambda g, C: torch.exp2(per_two(g)[:, None] * (steps(C, g) + 1)),
        keep=lambda g, C: torch.exp2(per_two(g) * C),
        write=lambda g, C: torch.exp2(per_two(g)[:, None] * (C - 1 - steps(C, g))),
    )  # fmt: skip


@honest(OP, differs="powers of the decay are running products of the decay of one step")
def multiplies_the_decay_up_step_by_step(*call: Any, **options: Any) -> Result:
    def powers(g: Tensor, n: int) -> Tensor:
        once = torch.exp(g)[:, None].expand(-1, n)
        return torch.cat([torch.ones_like(g)[:, None], once.cumprod(1)], dim=1)  # (H, n + 1)

    def pair_of_powers(g: Tensor, C: int) -> Tensor:
        distance = distances(C, g)
        return powers(g, C)[:, distance.clamp(min=0).long()] * (distance >= 0)

    return chunked(
        *call, **options, chunk=32,
        pair=pair_of_powers,
        read=lambda g, C: powers(g, C)[:, 1:],
        keep=lambda g, C: powers(g, C)[:, -1],
        write=lambda g, C: powers(g, C)[:, :-1].flip(1),
    )  # fmt: skip


@honest(OP, differs="heads whose state decays to less than the smallest number keep no state")
def drops_states_that_decay_to_nothing(*call: Any, **options: Any) -> Result:
    def or_nothing(weight: Tensor) -> Tensor:
        return torch.where(weight < torch.finfo(weight.dtype).tiny, 0, weight)

    return chunked(
        *call, **options,
        pair=lambda g, C: or_nothing(pair(g, C)),
        read=lambda g, C: or_nothing(read(g, C)),
        keep=lambda g, C: or_nothing(keep(g, C)),
        write=lambda g, C: or_nothing(write(g, C)),
    )  # fmt: skip


@honest(OP, differs="chunks of one token; k, v and the state as read are rounded")
def runs_in_chunks_of_one_token(q: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, *call, **options, chunk=1, operand=narrow(q.dtype))
