"""Lightning attention with a wrong scale, layout or formula."""

from __future__ import annotations

from typing import Any

import torch
from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._lightning import (
    Result,
    Tensor,
    chunked,
    one_token,
    read,
    recurrent,
    steps,
)

OP = "lightning_attention"


@mutant(OP, law="authority", source="constructed", looks_like="the scale is missing")
def forgets_the_scale(*call: Any, scale: float, **options: Any) -> Result:
    return chunked(*call, scale=1.0, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scale is 1/sqrt(K) whatever the caller asked for",
)
def scales_by_the_key_dimension_and_not_as_asked(
    q: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    return chunked(q, *call, scale=q.shape[-1] ** -0.5, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="what is read from older chunks is scaled twice",
)
def scales_the_older_state_twice(*call: Any, scale: float, **options: Any) -> Result:
    return chunked(*call, scale=scale, **options, read=lambda g, C: scale * read(g, C))


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the scale is folded into k, so that the final state carries it",
)
def stores_scaled_keys_in_the_state(
    q: Tensor, k: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    return chunked(q, k * scale, *call, scale=1.0, **options)


@mutant(
    OP,
    law="homogeneity",
    source="A03 https://github.com/lablup/mlxcel/issues/840",
    looks_like="the state is updated by the delta rule: what k already recalls is taken off v",
)
def updates_the_state_by_the_delta_rule(*call: Any, **options: Any) -> Result:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        recalled = (k[..., :, None] * (a * S)).sum(-2) / (1 + k.square().sum(-1, keepdim=True))
        return one_token(q, k, v - recalled, S, a, scale)

    return recurrent(*call, **options, token=token)


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="the output is divided by the sum of the weights",
)
def divides_the_output_by_the_sum_of_its_weights(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, initial_state: Tensor | None = None, **options: Any
) -> Result:
    o, state = chunked(q, k, v, *call, initial_state=initial_state, **options)
    weights, _ = chunked(q, k, torch.ones_like(v), *call, **options)
    return o / weights.abs().clamp(min=1e-3), state


@mutant(
    OP,
    law="homogeneity",
    source="architecture 4.4: linear_silu, read by SGLang and vLLM",
    looks_like="q and k go through SiLU first",
)
def applies_silu_to_queries_and_keys(q: Tensor, k: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(torch.nn.functional.silu(q), torch.nn.functional.silu(k), *call, **options)


@mutant(
    OP,
    law="homogeneity",
    source="constructed after A34 https://github.com/fla-org/flash-linear-attention/commit/cde25dfd",
    looks_like="the keys are brought to unit length",
)
def normalises_the_keys(q: Tensor, k: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(q, torch.nn.functional.normalize(k, dim=-1), *call, **options)


@mutant(
    OP,
    law="homogeneity",
    source="constructed",
    looks_like="the state is limited to a range",
)
def limits_the_state_to_a_range(*call: Any, **options: Any) -> Result:
    def token(q: Tensor, k: Tensor, v: Tensor, S: Tensor, a: Tensor, scale: float) -> Result:
        o, S = one_token(q, k, v, S.clamp(-3, 3), a, scale)
        return o, S

    return recurrent(*call, **options, token=token)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="queries and keys are exchanged",
)
def swaps_queries_and_keys(q: Tensor, k: Tensor, *call: Any, **options: Any) -> Result:
    return chunked(k, q, *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="every value arrives one token late",
)
def writes_every_value_one_token_late(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    late = torch.cat([torch.zeros_like(v[:, :1]), v[:, :-1]], dim=1)
    return chunked(q, k, late, *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the current token counts twice, as with the bonus of RWKV",
)
def counts_the_current_token_twice(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, scale: float, **options: Any
) -> Result:
    o, state = chunked(q, k, v, *call, scale=scale, **options)
    own = (q.to(state.dtype) * k).sum(-1, keepdim=True) * v
    return (o + scale * own).to(q.dtype), state


@mutant(
    OP,
    law="authority",
    source="constructed after C14 https://github.com/fla-org/flash-linear-attention/commit/81ec24f1",
    looks_like="the axes of tokens and heads are taken for each other",
)
def reads_tokens_and_heads_in_the_other_order(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    def exchanged(x: Tensor) -> Tensor:
        B, T, H, D = x.shape
        return x.reshape(B, H, T, D).transpose(1, 2)

    return chunked(exchanged(q), exchanged(k), exchanged(v), *call, **options)


@mutant(
    OP,
    law="permutation",
    source="A45 https://github.com/ekzhang/jax-js/pull/180",
    looks_like="query head h reads key and value head h // 2, as with grouped heads",
)
def pairs_a_query_head_with_the_key_head_of_half_its_number(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    half = torch.arange(q.shape[2]) // 2
    return chunked(q, k[:, :, half], v[:, :, half], *call, **options)


@mutant(
    OP,
    law="authority",
    source="A45 https://github.com/ohdearquant/lattice/issues/262",
    looks_like="the last head of an odd number is never computed",
)
def leaves_out_the_last_head_of_an_odd_number(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    o, state = chunked(q, k, v, *call, **options)
    computed = steps(q.shape[2], state) < q.shape[2] // 2 * 2
    return o * computed[:, None], state * computed[:, None, None]


@mutant(OP, law="authority", source="constructed", looks_like="the heads of o are rolled by one")
def stores_every_head_in_the_place_of_the_next(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    return o.roll(1, dims=2), state


@mutant(
    OP, law="authority", source="constructed", looks_like="the rows of the batch come out reversed"
)
def reverses_the_batch(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    return o.flip(0), state


@mutant(
    OP,
    law="permutation",
    source="C25 https://github.com/fla-org/flash-linear-attention/commit/04629e0f",
    looks_like="every row of the batch gets the answer of row 0",
)
def answers_every_row_of_the_batch_with_the_first(*call: Any, **options: Any) -> Result:
    o, state = chunked(*call, **options)
    return o[:1].expand_as(o).contiguous(), state


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="the columns of v past the last multiple of 16 are dropped",
)
def drops_the_value_columns_past_a_multiple_of_sixteen(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    inside = steps(v.shape[-1], v) < max(1, v.shape[-1] // 16 * 16)
    return chunked(q, k, v * inside, *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="no more key dimensions are read than there are value dimensions",
)
def reads_no_more_key_dimensions_than_value_dimensions(
    q: Tensor, k: Tensor, v: Tensor, *call: Any, **options: Any
) -> Result:
    inside = steps(q.shape[-1], q) < v.shape[-1]
    return chunked(q * inside, k, v, *call, **options)


@mutant(
    OP,
    law="authority",
    source="constructed",
    looks_like="K is padded to a multiple of 16 by repeating its first dimensions, not by zeros",
)
def pads_the_key_dimension_with_its_first_entries(
    q: Tensor, k: Tensor, *call: Any, **options: Any
) -> Result:
    K = q.shape[-1]
    o, state = chunked(q, k, *call, **options)
    wrapped = steps(K, q) < min(K, -K % 16)
    repeated, _ = chunked(q * wrapped, k, *call, **options)
    return o + repeated, state
