"""Lightning attention over whole sequences, forward and backward, by one chunked scan.

Letters: B batch, T tokens, N sequences, H heads, K key dim, V value dim, C tokens of a chunk.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from lingspec.kernels._scan import run_scan, scan
from lingspec.kernels.checks import require, require_inputs, require_runnable, require_tensor

__all__ = ["lightning_attention"]


class _LightningAttention(torch.autograd.Function):
    """The scan and its gradients.

    With R_t the gradient of the state S_t, R_t = decay R_{t+1} + scale q_t do_t^T:

        dq_t = scale S_t do_t     S^T: the forward scan that adds v k^T, read by do
        dk_t = R_t v_t            R^T: the reversed scan that adds do q^T, read by v
        dv_t = R_t^T k_t          R:   the reversed scan that adds q do^T, read by k
        d(initial) = decay R_1    what the reversed scan leaves behind
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor,
        initial: Tensor | None,
        cu_seqlens: Tensor | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        """Run the forward scan and keep its inputs; no state but the last is stored."""
        ctx.save_for_backward(q, k, v, log_decay, initial, cu_seqlens)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        N = q.shape[0] if cu_seqlens is None else cu_seqlens.numel() - 1
        final = q.new_empty(N, q.shape[2], q.shape[3], v.shape[3], dtype=torch.float32)
        o = run_scan(
            q, k, v, log_decay, cu_seqlens, scales=(scale, 1.0), initial=initial, final=final
        )
        return o, final

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, do: Tensor | None, dfinal: Tensor | None) -> tuple:
        """Run a scan for each gradient that is asked for."""
        q, k, v, log_decay, initial, cu_seqlens = ctx.saved_tensors
        needs_q, needs_k, needs_v, _, needs_initial, *_ = ctx.needs_input_grad
        if do is None:
            do = v.new_zeros(()).expand(v.shape)
        dq = dk = dv = dinitial = None
        if needs_q:
            start = None if initial is None else initial.transpose(-1, -2)
            dq = run_scan(do, v, k, log_decay, cu_seqlens, scales=(ctx.scale, 1.0), initial=start)
        if needs_k:
            end = None if dfinal is None else dfinal.transpose(-1, -2)
            dk = run_scan(
                v,
                do,
                q,
                log_decay,
                cu_seqlens,
                scales=(1.0, ctx.scale),
                initial=end,
                last_first=True,
            )
        if needs_v or needs_initial:
            dinitial = (
                torch.empty_like(initial, memory_format=torch.contiguous_format)
                if needs_initial
                else None
            )
            dv = run_scan(
                k, q, do, log_decay, cu_seqlens, scales=(1.0, ctx.scale), initial=dfinal,
                final=dinitial, last_first=True,
            )  # fmt: skip
        return dq, dk, dv if needs_v else None, None, dinitial, None, None


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
    """Read a decaying key-value memory, one token at a time.

    For each sequence n and head h, with S a (K, V) matrix that starts as ``initial_state``:

        S_t = exp(log_decay[h]) S_{t-1} + k_t v_t^T
        o_t = scale S_t^T q_t

    Token t sees itself: S is updated before it is read.

    Args:
        q:             (B, T, H, K) float32, bfloat16 or float16, any strides; 1 <= K <= 256.
        k:             (B, T, H, K) as q.
        v:             (B, T, H, V) as q; 1 <= V <= 256.
        log_decay:     (H,) float32, finite, <= 0. No gradient.
        scale:         Of the read.
        initial_state: (N, H, K, V) float32, any strides. None: zeros.
        cu_seqlens:    (N+1,) int32 or int64: sequence n is tokens cu_seqlens[n] to
                       cu_seqlens[n+1]. Needs B = 1. None: N = B sequences of T tokens.

    Returns:
        o:           (B, T, H, V), the dtype of q.
        final_state: (N, H, K, V) float32; of an empty sequence, the initial one.

    Precision:
        float32 accumulation, float32 state, one rounding of o. bfloat16 and float16: the decayed
        scores, the state where it is read, and v with its decay are rounded once, to 8 and to 11
        bits; in float16 they keep float32's range. The gradients, likewise.

    Raises:
        ContractError: a shape, dtype or device is wrong. Values are not looked at: see `checked`.
    """
    require_call(q, k, v, log_decay, initial_state, cu_seqlens)
    require_runnable(q, scan)
    ends = None if cu_seqlens is None else cu_seqlens.contiguous()
    return _LightningAttention.apply(
        q, k, v, log_decay.contiguous(), initial_state, ends, float(scale)
    )


def require_call(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:  # fmt: skip
    """Refuse shapes, dtypes and devices that are not those of the op."""
    require_inputs(q, k, v, log_decay, "BTHK")
    B, T, H, K = q.shape
    require(T < 2**31, "q", "tokens", T, "fewer than 2**31")
    require(not log_decay.requires_grad, "log_decay", "requires_grad", True, "no gradient")
    N = B
    if cu_seqlens is not None:
        require(cu_seqlens.dim() == 1, "cu_seqlens", "shape", tuple(cu_seqlens.shape), "(N+1,)")
        N = cu_seqlens.numel() - 1
        require(N >= 0, "cu_seqlens", "shape", tuple(cu_seqlens.shape), "(N+1,)")
        require_tensor(cu_seqlens, "cu_seqlens", (N + 1,), (torch.int32, torch.int64), q)
        require(B == 1, "q", "batch", B, "1, since cu_seqlens is given")
    if initial_state is not None:
        shape = (N, H, K, v.shape[-1])
        require_tensor(initial_state, "initial_state", shape, (torch.float32,), q)
