"""Lightning attention for one new token of each sequence, its states updated in place.

Letters: B tokens of the step, one a sequence, H heads, K key dim, V value dim, P rows of the pool.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lingspec.kernels._decay import decay_parts
from lingspec.kernels.checks import require, require_inputs, require_runnable, require_tensor

__all__ = ["launch_options", "lightning_decode"]


@triton.jit(do_not_specialize=["H"])
def _step(
    q_ptr, k_ptr, v_ptr, o_ptr, log_decay_ptr, pool_ptr, slots_ptr, scale, H,
    q_B, q_H, q_K, k_B, k_H, k_K, v_B, v_H, v_V, pool_P, pool_H, pool_K, pool_V,
    K: tl.constexpr, V: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    # Computes   S = decay S + k v^T in place, o = scale q^T S: `lightning_decode`.
    # Program    one token b, one head h, BLOCK_V columns of v: pool[slot, h, :, columns] and
    #            o[b, h, columns]. Grid (B H ceil(V / BLOCK_V),): only x passes 65535.
    # Traffic    reads and writes the float32 state once; q and k are re-read, from L2, by the other
    #            programs of the head. The rest is small.
    # On chip    S [BLOCK_K, BLOCK_V] float32; no partial sums leave the program.
    # Precision  float32; the decay is in two parts, so that no bias builds up over tokens.
    #            o is rounded once.
    # Masking    lanes past K load 0 and add 0; lanes past K, V are not stored. A slot below 0 is
    #            padding: its state is neither read nor written, its row of o is 0.
    # Integers   offsets into the pool and the inputs are int64.
    # Limits     K <= BLOCK_K <= 256. Slots >= 0 are distinct, or two programs race.
    tiles = tl.cdiv(V, BLOCK_V)
    program = tl.program_id(0)
    head = program // tiles
    h = (head % H).to(tl.int64)
    b = (head // H).to(tl.int64)
    key = tl.arange(0, BLOCK_K).to(tl.int64)
    column = (program % tiles) * BLOCK_V + tl.arange(0, BLOCK_V).to(tl.int64)
    key_inside = key < K
    column_inside = column < V
    inside = key_inside[:, None] & column_inside[None, :]
    o = tl.zeros((BLOCK_V,), tl.float32)

    slot = tl.load(slots_ptr + b).to(tl.int64)
    if slot >= 0:
        tile = pool_ptr + slot * pool_P + h * pool_H
        tile = tile + key[:, None] * pool_K + column[None, :] * pool_V
        S = tl.load(tile, mask=inside, other=0.0)
        q = tl.load(q_ptr + b * q_B + h * q_H + key * q_K, mask=key_inside, other=0.0)
        k = tl.load(k_ptr + b * k_B + h * k_H + key * k_K, mask=key_inside, other=0.0)
        v = tl.load(v_ptr + b * v_B + h * v_H + column * v_V, mask=column_inside, other=0.0)
        whole, rest = decay_parts(tl.load(log_decay_ptr + h), 1)
        added = k.to(tl.float32)[:, None] * v.to(tl.float32)[None, :]
        S = S * whole + (S * rest + added)
        tl.store(tile, S, mask=inside)
        o = tl.sum(q.to(tl.float32)[:, None] * S, axis=0) * scale
    o_row = o_ptr + (b * H + h) * V
    tl.store(o_row + column, o.to(o_ptr.dtype.element_ty), mask=column_inside)


def launch_options(K: int, V: int) -> dict[str, int]:
    """Return the tile sizes and warps of a decode step: a float32 tile of 16 KB at K = V = 128."""
    block_k = max(16, triton.next_power_of_2(K))
    block_v = min(32 if block_k < 256 else 16, max(16, triton.next_power_of_2(V)))
    return {"BLOCK_K": block_k, "BLOCK_V": block_v, "num_warps": 4}


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
    """Advance the state of each sequence by one token, in place, and read it.

    For each b and h, with S = state_pool[slots[b], h]:

        S    = exp(log_decay[h]) S + k_b v_b^T
        o_b  = scale S^T q_b

    Args:
        q:          (B, H, K) float32, bfloat16 or float16, any strides; 1 <= K <= 256.
        k:          (B, H, K) as q.
        v:          (B, H, V) as q; 1 <= V <= 256.
        log_decay:  (H,) float32, finite, <= 0.
        state_pool: (P, H, K, V) float32, any strides. Rows in ``slots`` are updated in place, no
                    other row is touched.
        slots:      (B,) int32 or int64: distinct rows of the pool, or -1 for padding, which reads
                    and writes no state.
        scale:      Of the read.

    Returns:
        (B, H, V), the dtype of q. Rows of padding are 0.

    Precision:
        float32; one rounding, of the result.

    Raises:
        ContractError: a shape, dtype or device is wrong. Values are not looked at: see `checked`.
    """
    require_call(q, k, v, log_decay, state_pool, slots)
    require_runnable(q, _step)
    (B, H, K), V = q.shape, v.shape[-1]
    o = torch.empty(B, H, V, dtype=q.dtype, device=q.device)
    options = launch_options(K, V)
    grid = (B * H * triton.cdiv(V, options["BLOCK_V"]),)
    if grid[0] == 0:
        return o
    with torch.cuda.device_of(q):
        _step[grid](
            q, k, v, o, log_decay.contiguous(), state_pool, slots.contiguous(), float(scale),
            H, *q.stride(), *k.stride(), *v.stride(), *state_pool.stride(), K=K, V=V, **options,
        )  # fmt: skip
    return o


def require_call(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state_pool: Tensor, slots: Tensor
) -> None:
    """Refuse shapes, dtypes and devices that are not those of the op."""
    require_inputs(q, k, v, log_decay, "BHK")
    (B, H, K), V = q.shape, v.shape[-1]
    require(state_pool.dim() == 4, "state_pool", "shape", tuple(state_pool.shape), "4 dims: PHKV")
    pool_shape = (state_pool.shape[0], H, K, V)
    require_tensor(state_pool, "state_pool", pool_shape, (torch.float32,), q)
    require_tensor(slots, "slots", (B,), (torch.int32, torch.int64), q)
