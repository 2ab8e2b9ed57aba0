"""Powers of a head's decay, shared by the lightning kernels."""

import triton
import triton.language as tl

__all__ = ["LOG2E", "LOG2_ZERO", "decay_parts"]

LOG2E = tl.constexpr(1.4426950408889634)
# exp2 of this is 0 in float32, and a product of it with a count of tokens stays finite.
LOG2_ZERO = tl.constexpr(-256.0)


@triton.jit
def decay_parts(log_decay, tokens):
    # exp(log_decay * tokens) as 1 + rest or, where that would cancel, as 0 + rest; both float32.
    # A state X becomes X * whole + X * rest once a step. One float32 factor would be off by up to
    # 2**-25, always the same way, which adds up over a long memory; here the bias is 2**-25 of the
    # rest, and the rest is small where the memory is long.
    exact = tl.exp(tl.maximum(log_decay.to(tl.float64), -256.0) * tokens)
    whole = tl.where(exact > 0.5, 1.0, 0.0)
    return whole, (exact - whole).to(tl.float32)
