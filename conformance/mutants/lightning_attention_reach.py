"""Lightning attention that is right only where small tests look."""

from __future__ import annotations

from typing import Any

import torch

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import (
    Result,
    Tensor,
    by_sequence,
    chunked,
    keep,
    pair,
    read,
    recurrent,
    write,
)  # fmt: skip
from lingspec.conformance.mutants._memory import on_the_object
from lingspec.conformance.mutants.lightning_attention_memory import (
    contiguous_strides,
    gather,
)

OP = "lightning_attention"


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="heads beyond the eighth take the decays of the first eight again",
)
def holds_the_decays_of_eight_heads(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    heads = torch.arange(q.shape[2]) % 8
    return chunked(q, k, v, log_decay[heads], **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="what was written more than 256 tokens ago is forgotten at every 256th",
)
def forgets_at_every_256th_token(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *,
    scale: float, initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    T = q.shape[1]
    if cu_seqlens is not None or T <= 256:
        return chunked(q, k, v, log_decay, scale=scale, initial_state=initial_state,
                       cu_seqlens=cu_seqlens)  # fmt: skip
    parts, S = [], initial_state
    for a in range(0, T, 256):
        now = [x[:, a : a + 256] for x in (q, k, v)]
        o, S = chunked(now[0], now[1], now[2], log_decay, scale=scale,
                       initial_state=S if a == 0 else None)  # fmt: skip
        parts.append(o)
    assert S is not None
    return torch.cat(parts, dim=1), S


@mutant(
    OP,
    law="packed",
    source="constructed",
    looks_like="sequences beyond the eighth keep their initial state",
)
def advances_eight_sequences(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    o, S = chunked(*call, initial_state=initial_state, **options)
    S[8:] = 0 if initial_state is None else initial_state[8:]
    return o, S


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="scores are clamped to a million",
)
def clamps_the_scores(*call: Any, **options: Any) -> Result:
    return chunked(*call, scores=lambda P: P.clamp(-1e6, 1e6), **options)


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="bf16 operands pass through float16, which holds no more than 65504",
    profile={"bfloat16": "bf16-tc"},
)
def takes_bfloat16_through_float16(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    narrow = (x.to(torch.float16).to(x.dtype) for x in (q, k, v))
    return chunked(*narrow, *call, **options)


@mutant(
    OP,
    law="permutation",
    source="constructed",
    looks_like="the algorithm depends on the number of rows",
    batch_invariant=True,
)
def claims_to_be_batch_invariant(q: Tensor, *call: Any, **options: Any) -> Result:
    return (recurrent if q.shape[0] > 1 else chunked)(q, *call, **options)


@mutant(
    OP,
    law="strides",
    source="constructed after L01",
    looks_like="the offset of a sequence's state is computed in 32 bits",
)
def computes_offsets_of_states_in_32_bits(
    *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    if initial_state is not None:
        shape, strides = initial_state.shape, initial_state.stride()
        initial_state = gather(initial_state, shape, strides, int32=True)
    return chunked(*call, initial_state=initial_state, **options)


@mutant(
    OP,
    law="strides",
    source="constructed",
    looks_like="k is addressed with the strides of q",
)
def addresses_the_keys_with_the_strides_of_the_queries(
    q: Tensor, k: Tensor, *call: Any, **options: Any
) -> Result:
    return chunked(q, gather(k, k.shape, q.stride()), *call, **options)


_kept: dict[tuple[Any, ...], Tensor] = {}


@mutant(
    OP,
    law="untouched",
    source="constructed after the static outputs of captured graphs",
    looks_like="results lie in a buffer that the next call writes",
)
def returns_the_same_buffers_every_time(*call: Any, **options: Any) -> Result:
    o, S = (
        _kept.setdefault((n, x.shape, x.dtype), torch.empty_like(x)).copy_(x)
        for n, x in enumerate(chunked(*call, **options))
    )
    return o, S


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="constructed after B18",
    looks_like="the gradient of the final state is read as if it were contiguous",
)
def reads_the_gradient_of_the_state_as_contiguous(*call: Any, **options: Any) -> Result:
    o, S = chunked(*call, **options)
    if S.requires_grad:
        S.register_hook(  # type: ignore[no-untyped-call]
            lambda dS: gather(dS, dS.shape, contiguous_strides(dS.shape))
        )
    return o, S


@mutant(
    OP,
    law="gradients",
    backward=True,
    source="constructed",
    looks_like="the initial state gets no gradient where it alone is trained",
)
def trains_the_initial_state_only_with_the_rest(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    if initial_state is not None and not any(x.requires_grad for x in (q, k, v)):
        initial_state = initial_state.detach() + 0 * initial_state
    return chunked(q, k, v, *call, initial_state=initial_state, **options)


_latest: list[Tensor] = []


class _Product(torch.autograd.Function):
    """P v, whose backward pass takes v from a place that all calls share."""

    @staticmethod
    def forward(ctx: Any, P: Tensor, v: Tensor) -> Tensor:
        _latest[:] = [v]
        ctx.save_for_backward(P)
        return P @ v

    @staticmethod
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor, Tensor]:
        (P,) = ctx.saved_tensors
        return do @ _latest[0].mT, P.mT @ do


@mutant(
    OP,
    law="gradients",
    backward=True,
    profile={"float32": "fp32"},
    source="constructed",
    looks_like="the backward pass takes the values of the latest call",
)
def saves_for_the_backward_pass_in_a_global(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *,
    scale: float, initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        n = q.shape[1]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        P = scale * (q @ k.mT) * pair(log_decay, n)
        product: Tensor = _Product.apply(P, v)  # type: ignore[no-untyped-call]
        o = product + scale * read(log_decay, n)[:, :, None] * (q @ S)
        written = (k * write(log_decay, n)[:, :, None]).mT @ v
        return o.transpose(1, 2), keep(log_decay, n)[:, None, None] * S + written

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@mutant(
    OP,
    law="authority",
    source="constructed after exponentials by an integer and a fraction",
    looks_like="an exponent beyond 2^31 overflows the integer it is split into: NaN, not 0",
)
def splits_exponents_into_an_integer_of_32_bits(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, **options: Any
) -> Result:
    lost = log_decay < -(2.0**31)
    return chunked(q, k, v, log_decay.masked_fill(lost, torch.nan), **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scale is never taken below a millionth",
)
def never_takes_the_scale_below_a_millionth(*call: Tensor, scale: float, **options: Any) -> Result:
    return recurrent(*call, scale=max(scale, 1e-6), **options)


@mutant(
    OP,
    law="causality",
    source="constructed after algorithms that are chosen by what a whole prompt holds",
    looks_like="the length of chunks depends on the values of all tokens",
)
def chooses_chunks_by_what_all_tokens_hold(q: Tensor, *call: Any, **options: Any) -> Result:
    held = float(q.double().abs().sum())
    return chunked(q, *call, chunk=16 if int(1000 * held) % 2 else 32, **options)


@mutant(
    OP,
    law="determinism",
    source="constructed after caches keyed by the tensor object",
    looks_like="where sequences end is kept on the tensor that says it",
)
def keeps_the_ends_of_a_tensor(*call: Any, **options: Any) -> Result:
    ends = options.get("cu_seqlens")
    first = None if ends is None else on_the_object(ends, ends.clone)
    return chunked(*call, **(options | {"cu_seqlens": first}))
