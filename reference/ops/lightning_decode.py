"""One token of Lightning attention for each of B sequences, whose memories live in a pool.

Letters: B batch, H heads, K key dim, V value dim, P slots of the pool; S a memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.ops.lightning_attention import check_types
from lingspec.reference.precision import work, work_dtype
from lingspec.reference.rounding import at

__all__ = ["lightning_decode", "step"]


@on_one_device
def lightning_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    state_pool: Tensor,
    slots: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Update the memory of each sequence by one token, in place, and read it.

    For each b with slots[b] >= 0, and head h, with S = state_pool[slots[b], h]:

        S <- exp(log_decay[h]) S + k_b v_b^T
        o_b = scale S^T q_b

    Where slots[b] is -1 the row is padding: nothing is read or written, and o_b is 0.

    Args:
        q:          (B, H, K)    float64, float32, bfloat16 or float16.
        k:          (B, H, K)    dtype of ``q``.
        v:          (B, H, V)    dtype of ``q``.
        log_decay:  (H,)         float32, finite, <= 0; natural logarithm per token.
        state_pool: (P, H, K, V) float32. Rows in ``slots`` are overwritten, no others.
        slots:      (B,)         int32 or int64; -1, or below P and different from all others.
        scale:      A number; the model uses K**-0.5.

    What is float32 is float64 where ``q`` is.

    Returns:
        (B, H, V), the dtype of ``q``.

    Precision:
        As `lightning_attention`: float32 (float64 for float64), o rounded once.

    Raises:
        ContractError: a shape, a dtype or a value that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:825-876, with one token; the
        pool and its padding slots are as in sglang @df216e6, lightning_backend.py.
    """
    _check(q, k, v, log_decay, state_pool, slots)
    live = slots >= 0
    row = slots[live].long()
    q_b, k_b, v_b = (work(x[live]) for x in (q, k, v))
    o, S = step(q_b, k_b, v_b, work(log_decay), scale, state_pool[row])

    state_pool[row] = S
    result = torch.zeros_like(v)
    result[live] = at("output", o.to(q.dtype))
    return result


def step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: float, S: Tensor
) -> tuple[Tensor, Tensor]:
    """One update and one read of memories S (B, H, K, V): o (B, H, V) and the new S."""
    decay = at("decay", log_decay.exp())[:, None, None]  # (H, 1, 1)
    written = at("product", at("k", k)[..., :, None] * at("v", v)[..., None, :])
    S = at("state", decay * at("state", S) + written)
    read = (at("q", q)[..., :, None] * at("state_read", S)).sum(dim=-2)  # (B, H, V)
    return at("product", read) * scale, S


def _check(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor
) -> None:
    require(q.dim() == 3, "q", "shape", tuple(q.shape), "(B, H, K)")
    B, H, K = q.shape
    check_types(q, k, v, log_decay, H)
    require(k.shape == q.shape, "k", "shape", tuple(k.shape), f"{tuple(q.shape)}, as q")
    ok = v.dim() == 3 and v.shape[:2] == q.shape[:2]
    require(ok, "v", "shape", tuple(v.shape), f"({B}, {H}, V), as q begins")
    shape = tuple(state_pool.shape)
    ok = len(shape) == 4 and shape[1:] == (H, K, v.shape[2])
    require(ok, "state_pool", "shape", shape, f"(P, {H}, {K}, {v.shape[2]})")
    want = work_dtype(q)
    require(state_pool.dtype == want, "state_pool", "dtype", state_pool.dtype, f"{want}")
    ok = slots.dtype in (torch.int32, torch.int64)
    require(ok, "slots", "dtype", slots.dtype, "int32 or int64")
    require(tuple(slots.shape) == (B,), "slots", "shape", tuple(slots.shape), f"({B},)")
    used = [s for s in slots.tolist() if s != -1]
    ok = len(set(used)) == len(used) and all(0 <= s < shape[0] for s in used)
    require(ok, "slots", "values", slots.tolist(), f"-1, or distinct slots below {shape[0]}")
