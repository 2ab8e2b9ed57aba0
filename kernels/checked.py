"""The ops of this package, with the *values* of their arguments checked before the launch.

Looking at a value waits for the device, so the plain entry points do not look.
"""

from torch import Tensor

from lingspec.kernels.checks import require
from lingspec.kernels.lightning_attention import lightning_attention as _attention
from lingspec.kernels.lightning_attention import require_call as _require_attention
from lingspec.kernels.lightning_decode import lightning_decode as _decode
from lingspec.kernels.lightning_decode import require_call as _require_decode
from lingspec.kernels.lightning_log_decay import lightning_log_decay

__all__ = ["lightning_attention", "lightning_decode", "lightning_log_decay"]


def _require_log_decay(log_decay: Tensor) -> None:
    good = (log_decay <= 0) & log_decay.isfinite()
    if not bool(good.all()):
        require(False, "log_decay", "value", log_decay[~good][0].item(), "finite values <= 0")


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
    """Refuse bad values of ``log_decay`` and ``cu_seqlens``, else as the op of this name."""
    _require_attention(q, k, v, log_decay, initial_state, cu_seqlens)
    _require_log_decay(log_decay)
    if cu_seqlens is not None:
        ends = cu_seqlens.tolist()
        require(ends[0] == 0, "cu_seqlens", "first value", ends[0], "0")
        require(ends[-1] == q.shape[1], "cu_seqlens", "last value", ends[-1], f"T = {q.shape[1]}")
        require(ends == sorted(ends), "cu_seqlens", "values", ends, "no value below the one before")
    return _attention(
        q, k, v, log_decay, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens
    )


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
    """Refuse bad values of ``log_decay`` and ``slots``, else as the op of this name."""
    _require_decode(q, k, v, log_decay, state_pool, slots)
    _require_log_decay(log_decay)
    rows, used = state_pool.shape[0], slots.tolist()
    outside = [slot for slot in used if not -1 <= slot < rows]
    require(not outside, "slots", "values", outside, f"-1 to {rows - 1}, the rows of the pool")
    used = [slot for slot in used if slot >= 0]
    twice = sorted({slot for slot in used if used.count(slot) > 1})
    require(not twice, "slots", "repeated values", twice, "each row at most once")
    return _decode(q, k, v, log_decay, state_pool, slots, scale=scale)
