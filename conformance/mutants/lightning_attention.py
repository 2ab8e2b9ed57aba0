"""Lightning attention with a wrong decay or a wrong causal mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import (
    CHUNK,
    Result,
    Steps,
    Tensor,
    by_chunk,
    by_sequence,
    chunked,
    distances,
    one_chunk,
    pair,
    read,
    recurrent,
    steps,
)

OP = "lightning_attention"
FLA = "https://github.com/fla-org/flash-linear-attention"


@mutant(
    OP,
    law="authority",
    source="A48 https://github.com/NVlabs/GatedDeltaNet/issues/15",
    looks_like="the pairs within a chunk carry the causal mask but no decay",
)
def masks_the_pairs_of_a_chunk_without_decaying_them(*call: Any, **options: Any) -> Result:
    def plain_mask(g: Tensor, C: int) -> Tensor:
        return (distances(C, g) >= 0).to(g.dtype).expand(len(g), C, C)

    return chunked(*call, **options, pair=plain_mask)


@mutant(
    OP,
    law="causality",
    source="constructed",
    looks_like="the causal mask is one token too wide: a token sees the next one",
)
def lets_a_token_see_the_next_one(*call: Any, **options: Any) -> Result:
    def too_wide(g: Tensor, C: int) -> Tensor:
        distance = distances(C, g)
        return torch.exp(g[:, None, None] * distance.clamp(min=0)) * (distance >= -1)

    return chunked(*call, **options, pair=too_wide)


@mutant(
    OP,
    law="causality",
    source="constructed",
    looks_like="the last chunk has no causal mask",
)
def forgets_the_causal_mask_in_the_last_partial_chunk(*call: Any, **options: Any) -> Result:
    def unmasked_if_partial(g: Tensor, C: int) -> Tensor:
        if C == CHUNK:
            return pair(g, C)
        return torch.exp(g[:, None, None] * distances(C, g).abs())

    return chunked(*call, **options, pair=unmasked_if_partial)


@mutant(
    OP,
    law="causality",
    source="constructed",
    looks_like="the sequence is run from its end to its beginning",
)
def runs_the_tokens_backwards(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    o, state = chunked(q.flip(1), k.flip(1), v.flip(1), *call, **options)
    return o.flip(1), state


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the causal mask is one token too narrow: a token does not see itself",
)
def hides_a_token_from_itself(*call: Any, **options: Any) -> Result:
    def too_narrow(g: Tensor, C: int) -> Tensor:
        return pair(g, C) * (distances(C, g) > 0)

    return chunked(*call, **options, pair=too_narrow)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="a token is added before the decay, so that it is decayed at once",
)
def decays_the_token_that_was_just_written(*call: Any, **options: Any) -> Result:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        S = a * (S + k[..., :, None] * v[..., None, :])
        return scale * (q[..., :, None] * S).sum(-2), S

    return recurrent(*call, **options, token=token)


@mutant(
    OP,
    law="authority",
    source="A27 https://github.com/vllm-project/vllm/pull/21783",
    looks_like="the state from before the chunk is read with one step of decay too few",
)
def reads_the_older_state_one_step_too_early(*call: Any, **options: Any) -> Result:
    def one_step_short(g: Tensor, C: int) -> Tensor:
        return torch.exp(g[:, None] * steps(C, g))

    return chunked(*call, **options, read=one_step_short)


@mutant(
    OP,
    law="authority",
    source="A17 https://github.com/sgl-project/sglang/pull/31904",
    looks_like="the state is read with 2^g where it is written with e^g",
)
def reads_the_state_with_powers_of_two(*call: Any, **options: Any) -> Result:
    def base_two(g: Tensor, C: int) -> Tensor:
        return torch.exp2(g[:, None] * (steps(C, g) + 1))

    return chunked(*call, **options, read=base_two)


@mutant(
    OP,
    law="authority",
    source=f"A09 {FLA}/commit/4889a8b9",
    looks_like="the exponential is taken before the causal mask: infinity times 0 at strong decay",
)
def multiplies_by_the_mask_after_the_exponential(*call: Any, **options: Any) -> Result:
    def masked_late(g: Tensor, C: int) -> Tensor:
        distance = distances(C, g)
        return torch.exp(g[:, None, None] * distance) * (distance >= 0)

    return chunked(*call, **options, pair=masked_late)


@mutant(
    OP,
    law="authority",
    source="A15 SGLang seg_la.py, https://github.com/ohdearquant/lattice/pull/716",
    looks_like="the decay is split into e^(g i) and e^(-g j), whose product overflows",
)
def divides_by_the_cumulative_decay(*call: Any, **options: Any) -> Result:
    def quotient(g: Tensor, C: int) -> Tensor:
        cumulative = torch.exp(g[:, None] * steps(C, g))
        return (cumulative[:, :, None] / cumulative[:, None, :]).tril()

    return chunked(*call, **options, pair=quotient)


@mutant(
    OP,
    law="authority",
    source="A13 https://github.com/sgl-project/sglang/issues/39971",
    looks_like="both factors of the decay are clamped and no longer cancel",
)
def clamps_the_two_halves_of_the_decay_apart(*call: Any, **options: Any) -> Result:
    def clamped(g: Tensor, C: int) -> Tensor:
        from_middle = g[:, None] * (steps(C, g) - C // 2)
        down, up = (torch.exp(x.clamp(-40, 40)) for x in (from_middle, -from_middle))
        return (down[:, :, None] * up[:, None, :]).tril()

    return chunked(*call, **options, pair=clamped)


@mutant(
    OP,
    law="authority",
    source=f"A12 {FLA}/issues/461",
    looks_like="heads without decay lose every pair of distinct tokens",
)
def drops_the_pairs_whose_decay_is_exactly_one(*call: Any, **options: Any) -> Result:
    def only_if_negative(g: Tensor, C: int) -> Tensor:
        exponent = g[:, None, None] * distances(C, g)
        weight = torch.exp(torch.where(exponent < 0, exponent, -torch.inf))
        return weight + torch.eye(C, dtype=g.dtype)

    return chunked(*call, **options, pair=only_if_negative)


@mutant(
    OP,
    law="authority",
    source="A47 https://github.com/flashinfer-ai/flashinfer/issues/2768",
    looks_like="the running sum of the decay restarts every 16 tokens",
)
def restarts_the_running_decay_every_sixteen_tokens(*call: Any, **options: Any) -> Result:
    def restarted(g: Tensor, C: int) -> Tensor:
        within = steps(C, g) % 16
        distance = (within[:, None] - within).clamp(min=0)
        return torch.exp(g[:, None, None] * distance).tril()

    return chunked(*call, **options, pair=restarted)


@mutant(
    OP,
    law="permutation",
    source=f"constructed after A20 {FLA}/commit/40334f1c",
    looks_like="pairs that are 16 tokens apart or more use the decay of the next head",
)
def takes_the_decay_between_blocks_from_the_next_head(*call: Any, **options: Any) -> Result:
    def next_head(g: Tensor, C: int) -> Tensor:
        of_next = torch.cat([g[1:], g[-1:]])
        return torch.where(distances(C, g) < 16, pair(g, C), pair(of_next, C))

    return chunked(*call, **options, pair=next_head)


@mutant(
    OP,
    law="authority",
    source=f"constructed after A33 {FLA}/commit/5aea42b7",
    looks_like="from token 128 on the decay within a chunk is missing",
)
def decays_only_the_first_slab_of_tokens(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    right = Steps()
    unmasked = replace(right, pair=lambda g, C: (distances(C, g) >= 0).to(g.dtype))
    fixed: dict[str, Any] = {"log_decay": log_decay, "scale": scale, "chunk": CHUNK}

    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        first, S = by_chunk(q[:, :128], k[:, :128], v[:, :128], S, **fixed, line=right)
        rest, S = by_chunk(q[:, 128:], k[:, 128:], v[:, 128:], S, **fixed, line=unmasked)
        return torch.cat([first, rest], dim=1), S

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="nothing older than the 4 chunks of 16 tokens before is remembered",
)
def remembers_four_chunks_only(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float,
    initial_state: Tensor | None = None, cu_seqlens: Tensor | None = None,
) -> Result:  # fmt: skip
    def run(q: Tensor, k: Tensor, v: Tensor, S: Tensor) -> Result:
        q_h, k_h, v_h = (x.to(S.dtype).transpose(1, 2) for x in (q, k, v))
        outputs, final = [v_h[:, :, :0]], S
        for end in range(16, q.shape[1] + 16, 16):
            first = max(0, end - 80)
            seen = slice(first, end)
            start = S if first == 0 else torch.zeros_like(S)
            o, final = one_chunk(
                q_h[:, :, seen], k_h[:, :, seen], v_h[:, :, seen], start, log_decay, scale, Steps()
            )
            outputs.append(o[:, :, end - 16 - first :])
        return torch.cat(outputs, dim=2).transpose(1, 2).to(q.dtype), final

    return by_sequence(run, q, k, v, initial_state, cu_seqlens)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="after 200 tokens the state is read without its decay within the chunk",
)
def stops_decaying_the_state_it_reads_after_two_hundred_tokens(
    q: Tensor, *call: Any, **options: Any
) -> Result:
    def frozen(g: Tensor, C: int) -> Tensor:
        return torch.ones_like(read(g, C))

    return chunked(q, *call, **options, read=frozen if q.shape[1] > 200 else read)
