"""Lightning attention: a key-value memory that decays by a constant factor per head and token.

Letters: B batch, T tokens, N sequences, H heads, K key dim, V value dim; S the memory, t and j
tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lingspec.reference.checks import check_cu_seqlens, on_one_device, require
from lingspec.reference.precision import check_float, work, work_dtype
from lingspec.reference.rounding import at

__all__ = ["lightning_attention"]

Forward = Callable[[Tensor, Tensor, Tensor, Tensor, float, Tensor], tuple[Tensor, Tensor]]


@on_one_device
def lightning_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Read a decaying memory, one token at a time.

    For each sequence and head h, with S_0 the initial state:

        S_t = exp(log_decay[h]) S_{t-1} + k_t v_t^T
        o_t = scale S_t^T q_t

    Token t sees itself: S is updated before it is read.

    Args:
        q:             (B, T, H, K) float64, float32, bfloat16 or float16.
        k:             (B, T, H, K) dtype of ``q``.
        v:             (B, T, H, V) dtype of ``q``.
        log_decay:     (H,)         float32, finite, <= 0; natural logarithm per token.
        scale:         A number; the model uses K**-0.5.
        initial_state: (N, H, K, V) float32, or None for 0. It is not written to.
        cu_seqlens:    (N + 1,)     int32 or int64, first 0, last T, never falling: B must be 1,
                       and tokens cu_seqlens[n] to cu_seqlens[n + 1] are sequence n. None: N = B.

    What is float32 is float64 where ``q`` is.

    Returns:
        o:           (B, T, H, V) dtype of ``q``.
        final_state: (N, H, K, V) float32: S after the last token of each sequence; a copy of the
                     initial state, or 0, where the sequence is empty.

    Precision:
        float32 (float64 for float64) throughout, o rounded once, at the end. Other implementations
        may round where `at` stands, as their precision profile says.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:825-876; the operator it calls
        is fla v0.3.2, ops/simple_gla (fused_recurrent_simple_gla).
    """
    return by_sequence(_recurrence, q, k, v, log_decay, scale, initial_state, cu_seqlens)


def _recurrence(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: float, S: Tensor
) -> tuple[Tensor, Tensor]:
    q, k, v = at("q", q), at("k", k), at("v", v)
    decay = at("decay", log_decay.exp())[:, None, None]  # (H, 1, 1)
    rows = []
    for t in range(q.shape[1]):
        written = at("product", k[:, t, :, :, None] * v[:, t, :, None, :])  # (B, H, K, V)
        S = at("state", decay * S + written)
        read = (q[:, t, :, :, None] * at("state_read", S)).sum(dim=-2)  # (B, H, V)
        rows.append(at("product", read) * scale)
    return (torch.stack(rows, dim=1) if rows else v), S


def by_sequence(
    forward: Forward, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: float,
    initial_state: Tensor | None, cu_seqlens: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    check_arguments(q, k, v, log_decay, initial_state, cu_seqlens)
    parts = []
    for tokens, rows in sequences(q, cu_seqlens):
        S = at("state", initial(q, v, initial_state, rows))
        q_n, k_n, v_n = (work(x[:, tokens]) for x in (q, k, v))
        parts.append(forward(q_n, k_n, v_n, work(log_decay), scale, S))
    o, final_state = zip(*parts, strict=True)
    return at("output", torch.cat(o, dim=1).to(q.dtype)), torch.cat(final_state, dim=0)


def sequences(q: Tensor, cu_seqlens: Tensor | None) -> list[tuple[slice, slice]]:
    """The tokens of each sequence, and the rows of the states that go with them."""
    if cu_seqlens is None:
        return [(slice(0, q.shape[1]), slice(0, q.shape[0]))]
    ends = cu_seqlens.tolist()
    return [
        (slice(first, last), slice(n, n + 1))
        for n, (first, last) in enumerate(zip(ends, ends[1:], strict=False))
    ] or [(slice(0, 0), slice(0, 0))]


def initial(q: Tensor, v: Tensor, initial_state: Tensor | None, rows: slice) -> Tensor:
    """Rows of the initial state, or zeros; a copy, so that no result shares memory with it."""
    if initial_state is not None:
        return work(initial_state[rows]).clone()
    return work(q.new_zeros(rows.stop - rows.start, q.shape[2], q.shape[3], v.shape[3]))


def check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    """Refuse what `lightning_attention` does not allow."""
    require(q.dim() == 4, "q", "shape", tuple(q.shape), "(B, T, H, K)")
    B, T, H, K = q.shape
    check_types(q, k, v, log_decay, H)
    require(k.shape == q.shape, "k", "shape", tuple(k.shape), f"{tuple(q.shape)}, as q")
    ok = v.dim() == 4 and v.shape[:3] == q.shape[:3]
    require(ok, "v", "shape", tuple(v.shape), f"({B}, {T}, {H}, V), as q begins")
    N = B
    if cu_seqlens is not None:
        require(B == 1, "q", "batch", B, "B = 1 where cu_seqlens is given")
        N = len(check_cu_seqlens(cu_seqlens, T, "cu_seqlens")) - 1
    if initial_state is not None:
        shape, state = (N, H, K, v.shape[3]), initial_state
        require(
            tuple(state.shape) == shape, "initial_state", "shape", tuple(state.shape), f"{shape}"
        )
        require(
            state.dtype == work_dtype(q),
            "initial_state",
            "dtype",
            state.dtype,
            f"{work_dtype(q)}",
        )


def check_types(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, H: int) -> None:
    """Refuse dtypes and decays that the Lightning ops do not allow."""
    check_float(q, "q")
    require(k.dtype == q.dtype, "k", "dtype", k.dtype, f"{q.dtype}, as q")
    require(v.dtype == q.dtype, "v", "dtype", v.dtype, f"{q.dtype}, as q")
    require(tuple(log_decay.shape) == (H,), "log_decay", "shape", tuple(log_decay.shape), f"({H},)")
    want = work_dtype(q)
    require(log_decay.dtype == want, "log_decay", "dtype", log_decay.dtype, f"{want}")
    ok = bool((log_decay.isfinite() & (log_decay <= 0)).all())
    require(ok, "log_decay", "values", log_decay.tolist(), "finite values <= 0")
