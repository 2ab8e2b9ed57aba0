"""Powers of a head's decay, shared by the lightning kernels."""

import triton
import triton.language as tl

__all__ = ["LOG2E", "LOG2_ZERO", "decay_pair"]

LOG2E = tl.constexpr(1.4426950408889634)
# exp2 of this is 0 in float32, and a product of it with a count of tokens stays finite.
LOG2_ZERO = tl.constexpr(-256.0)


@triton.jit
def decay_pair(log_decay, tokens):
    # exp(log_decay * tokens) as two float32s, the second the rounding error of the first: a state
    # is multiplied by it once per step, so that a relative bias of 2**-25 would add up.
    exact = tl.exp(tl.maximum(log_decay.to(tl.float64), -256.0) * tokens)
    leading = exact.to(tl.float32)
    return leading, (exact - leading.to(tl.float64)).to(tl.float32)
