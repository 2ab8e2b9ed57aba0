"""The chunked scan of Lightning attention, which computes results and gradients alike.

Letters: B batch, T tokens, N sequences, H heads, K key dim, V value dim, C tokens of a chunk.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lingspec.kernels._decay import LOG2_ZERO, LOG2E, decay_parts

__all__ = ["launch_options", "run_scan", "scan"]


@triton.jit
def _round_to_tf32(x):
    # To nearest, ties to even: the tensor core would drop the 13 low mantissa bits.
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0xFFF + ((bits >> 13) & 1)) & -0x2000
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _operand(x, dtype: tl.constexpr):
    # A float32 tile as the factor of a product: rounded once to what the profile of dtype allows.
    if dtype == tl.float16:
        return _round_to_tf32(x)
    else:  # noqa: RET505 - Triton compiles what follows a return, unless it is an else
        return x.to(dtype)


@triton.jit
def _partner(x, dtype: tl.constexpr):
    # An input tile as the other factor: the same bits, in the type that `_operand` returns.
    if dtype == tl.float16:
        return x.to(tl.float32)
    else:  # noqa: RET505 - as above
        return x


@triton.jit
def _product(a, b, dtype: tl.constexpr, SLICE: tl.constexpr):
    # a b, accumulated in float32. An ieee product holds its whole contraction in registers, so
    # that a long one is cut in slices, whose sums are added.
    M: tl.constexpr = a.shape[0]
    L: tl.constexpr = a.shape[1]
    N: tl.constexpr = b.shape[1]
    if dtype == tl.float32 and L > SLICE:
        a = tl.permute(tl.reshape(a, (M, L // SLICE, SLICE)), (1, 0, 2))
        b = tl.reshape(b, (L // SLICE, SLICE, N))
        return tl.sum(tl.dot(a, b, input_precision="ieee"), axis=0)
    else:  # noqa: RET505 - as above
        return tl.dot(a, b, input_precision="tf32" if dtype == tl.float16 else "ieee")


@triton.jit(do_not_specialize=["T", "H"])
def scan(
    q_ptr, k_ptr, v_ptr, o_ptr, log_decay_ptr, initial_ptr, final_ptr, cu_seqlens_ptr,
    read_scale, write_scale, T, H, K: tl.constexpr, V: tl.constexpr,
    q_B, q_T, q_H, q_K, k_B, k_T, k_H, k_K, v_B, v_T, v_H, v_V, o_B, o_T, o_H, o_V,
    initial_N, initial_H, initial_K, initial_V, final_N, final_H, final_K, final_V,
    C: tl.constexpr, SLICE: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
    dtype: tl.constexpr, REVERSED: tl.constexpr, PACKED: tl.constexpr,
    HAS_INITIAL: tl.constexpr, HAS_FINAL: tl.constexpr,
):  # fmt: skip
    # Computes   X = decay X + write_scale k v^T, o = read_scale q^T X, token by token: forward in
    #            time (decay, add, read), or REVERSED, from the last token to the first (add, read,
    #            decay). `lightning_attention` is the first; its three gradients are these two
    #            recurrences with other tensors as q, k, v.
    # Program    one sequence n, one head h, BLOCK_V columns of v: o[n, :, h, columns] and
    #            final[n, h, :, columns]. Grid (N H ceil(V / BLOCK_V),), columns fastest, so that
    #            the programs that share q and k run together.
    # Traffic    reads q, k, v and writes o once; q and k are re-read, from L2, by every other
    #            program of the head. The state is read once and written once.
    # On chip    X [BLOCK_K, BLOCK_V] float32 for the whole sequence, the decay matrix [C, C], and
    #            one chunk of q, k, v (num_stages of them in flight).
    # Precision  float32 inputs: ieee products. bfloat16: the scores after decay, X where it is
    #            read, and v with its decay are rounded once to bfloat16; q k^T takes the inputs as
    #            they are. float16: the same three are rounded to 11 bits in float32's range (tf32),
    #            since X and the scores can pass 65504. Accumulation and X in float32; o is rounded
    #            once. The decay of X is in two parts, so that no bias builds up over T.
    # Masking    tokens past the end load 0: they add nothing to X; rows past the end and lanes past
    #            K, V are not stored. Where its weight is 0 (above the diagonal, or decayed to
    #            nothing) a score is selected away, not multiplied: a later token may be anything.
    # Integers   every offset is int64, views with strides past 2**31 included; T < 2**31.
    # Limits     K <= BLOCK_K <= 256. Exponents are <= 0 and floored at LOG2_ZERO, where exp2 is 0.
    #            Dims that are no multiples of 16 are right, but loaded lane by lane, and spill.
    tiles = tl.cdiv(V, BLOCK_V)
    program = tl.program_id(0)
    head = program // tiles
    h = (head % H).to(tl.int64)
    n = (head // H).to(tl.int64)
    if PACKED:
        first = tl.load(cu_seqlens_ptr + n).to(tl.int64)
        length = (tl.load(cu_seqlens_ptr + n + 1).to(tl.int64) - first).to(tl.int32)
        b = n * 0
    else:
        first = n * 0
        length = T
        b = n
    if REVERSED:
        first += length - 1

    r = tl.arange(0, C)
    key = tl.arange(0, BLOCK_K).to(tl.int64)
    column = (program % tiles) * BLOCK_V + tl.arange(0, BLOCK_V).to(tl.int64)
    q_ptr += b * q_B + first * q_T + h * q_H
    k_ptr += b * k_B + first * k_T + h * k_H
    v_ptr += b * v_B + first * v_T + h * v_H
    o_ptr += b * o_B + first * o_T + h * o_H
    if REVERSED:
        q_T, k_T, v_T, o_T = -q_T, -k_T, -v_T, -o_T

    X_inside = (key[:, None] < K) & (column[None, :] < V)
    X = tl.zeros((BLOCK_K, BLOCK_V), tl.float32)
    if HAS_INITIAL:
        tile = key[:, None] * initial_K + column[None, :] * initial_V
        X = tl.load(initial_ptr + n * initial_N + h * initial_H + tile, mask=X_inside, other=0.0)

    log_decay = tl.load(log_decay_ptr + h)
    log2_decay = tl.maximum(log_decay * LOG2E, LOG2_ZERO)
    chunks = tl.cdiv(length, C)
    whole, rest = decay_parts(log_decay, C)
    last_whole, last_rest = decay_parts(log_decay, length - (chunks - 1) * C)
    ahead = r[:, None] - r[None, :]
    weight = tl.exp2(log2_decay * tl.maximum(ahead, 0)) * (read_scale * write_scale)
    weight = tl.where(ahead >= 0, weight, 0.0)
    # Tokens from the state to a row, and from a row to the end of a chunk of C, less C.
    since = r if REVERSED else r + 1
    until = -r if REVERSED else -1 - r
    row_weight = tl.exp2(log2_decay * since) * read_scale

    for c in range(chunks):
        left = tl.minimum(length - c * C, C)
        token = (c * C + r).to(tl.int64)[:, None]
        live = r[:, None] < left
        k_inside = live & (key[None, :] < K)
        v_inside = live & (column[None, :] < V)
        q = tl.load(q_ptr + token * q_T + key[None, :] * q_K, mask=k_inside, other=0.0)
        k = tl.load(k_ptr + token * k_T + key[None, :] * k_K, mask=k_inside, other=0.0)
        v = tl.load(v_ptr + token * v_T + column[None, :] * v_V, mask=v_inside, other=0.0)

        scores = _product(q, tl.trans(k), dtype, SLICE)  # (C, C)
        scores = tl.where(weight != 0, scores * weight, 0.0)
        o = _product(_partner(q, dtype), _operand(X, dtype), dtype, SLICE)
        o = o * row_weight[:, None]
        o += _product(_operand(scores, dtype), _partner(v, dtype), dtype, SLICE)
        tl.store(o_ptr + token * o_T + column[None, :] * o_V, o.to(dtype), mask=v_inside)

        v_weight = tl.exp2(log2_decay * tl.maximum(left + until, 0)) * write_scale
        v_decayed = _operand(v.to(tl.float32) * v_weight[:, None], dtype)
        added = _product(tl.trans(_partner(k, dtype)), v_decayed, dtype, SLICE)
        last = c == chunks - 1
        added += X * tl.where(last, last_rest, rest)
        X = X * tl.where(last, last_whole, whole) + added

    if HAS_FINAL:
        tile = key[:, None] * final_K + column[None, :] * final_V
        tl.store(final_ptr + n * final_N + h * final_H + tile, X, mask=X_inside)


def launch_options(K: int, V: int, dtype: torch.dtype) -> dict[str, int]:
    """Return the tile sizes, warps and stages with which the scan runs: none of them spills.

    Args:
        K:     The last dim of the scan's q and k.
        V:     The last dim of the scan's v.
        dtype: Of the three.
    """
    block_k = max(16, triton.next_power_of_2(K))
    chunk, block_v, warps, stages = _TILES[dtype][max(block_k, 32)]
    block_v = min(block_v, max(16, triton.next_power_of_2(V)))
    return {
        "C": chunk,
        "SLICE": 16,
        "BLOCK_K": block_k,
        "BLOCK_V": block_v,
        "num_warps": warps,
        "num_stages": stages,
    }


# By dtype and BLOCK_K (the smallest is for 16, too): C, BLOCK_V at most, warps, stages. These
# compile for sm_90a without a spill, with Triton 3.6 and 3.9, in all four scans. C = 64 fills the M
# of a wgmma; float16 at 256, whose operands are float32, has no registers for it.
_TILES = {
    torch.float32: {
        32: (64, 16, 8, 1),
        64: (32, 32, 8, 1),
        128: (32, 16, 8, 1),
        256: (16, 16, 8, 1),
    },
    torch.bfloat16: {
        32: (64, 64, 4, 3),
        64: (64, 64, 4, 3),
        128: (64, 64, 8, 3),
        256: (64, 16, 8, 3),
    },
    torch.float16: {
        32: (64, 64, 8, 3),
        64: (64, 64, 8, 3),
        128: (64, 16, 8, 3),
        256: (32, 16, 8, 2),
    },
}
_TRITON_DTYPES = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}


def _room_for_stages(stages: int, device: torch.device) -> int:
    """Lower ``stages`` to what the shared memory of ``device`` holds at every size of `_TILES`."""
    if device.type != "cuda":
        return stages
    capability = torch.cuda.get_device_capability(device)
    if capability[0] in (9, 10):  # 227 KiB a block
        return stages
    return min(stages, 2) if capability in ((8, 0), (8, 7)) else 1  # 163 KiB; 99 KiB


def run_scan(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, cu_seqlens: Tensor | None, *,
    scales: tuple[float, float], initial: Tensor | None, final: Tensor | None = None,
    last_first: bool = False,
) -> Tensor:  # fmt: skip
    """Allocate o, launch `scan`, return o; ``final`` is written where it is given."""
    B, T, H, K = q.shape
    V = v.shape[-1]
    N = B if cu_seqlens is None else cu_seqlens.numel() - 1
    o = torch.empty(B, T, H, V, dtype=q.dtype, device=q.device)
    options = launch_options(K, V, q.dtype)
    options["num_stages"] = _room_for_stages(options["num_stages"], q.device)
    grid = (N * H * triton.cdiv(V, options["BLOCK_V"]),)
    if grid[0] == 0:
        return o
    no_strides = (0, 0, 0, 0)
    with torch.cuda.device_of(q):
        scan[grid](
            q, k, v, o, log_decay, initial, final, cu_seqlens,
            *scales, T, H, K, V,
            *q.stride(), *k.stride(), *v.stride(), *o.stride(),
            *(no_strides if initial is None else initial.stride()),
            *(no_strides if final is None else final.stride()),
            dtype=_TRITON_DTYPES[q.dtype], REVERSED=last_first, PACKED=cu_seqlens is not None,
            HAS_INITIAL=initial is not None, HAS_FINAL=final is not None, **options,
        )  # fmt: skip
    return o
