"""Right backward passes that round every operand of their matrix products once, as tensor cores do.

They differ in which operand takes the decay, before it is rounded: nothing, the tokens' own
tensors (q, k), or those that come from outside (do, v).
"""

from __future__ import annotations

from typing import Any

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.lightning_attention import narrow
from lingspec.conformance.mutants._lightning import Result, Tensor
from lingspec.conformance.mutants._lightning_backward import Chunk, S_after, two_pass

OP = "lightning_attention"
PROFILES = {"float32": "fp32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}


@honest(
    OP, profile=PROFILES, backward=True,
    differs="the backward pass rounds every operand; decay and scale are folded into q and k",
)  # fmt: skip
def folds_the_decay_into_q_and_k_going_back(q: Tensor, *call: Any, **options: Any) -> Result:
    n = narrow(q.dtype)

    def d_q(c: Chunk) -> Tensor:
        return n(n(c.do) @ n(c.v).mT * c.pair) @ n(c.k) + c.read * (n(c.do) @ n(c.S).mT)

    def d_k(c: Chunk) -> Tensor:
        return n(n(c.do) @ n(c.v).mT * c.pair).mT @ n(c.q) + c.write * (n(c.v) @ n(c.d_state).mT)

    def d_v(c: Chunk) -> Tensor:
        return n(n(c.q) @ n(c.k).mT * c.pair).mT @ n(c.do) + n(c.write * c.k) @ n(c.d_state)

    def d_start(c: Chunk) -> Tensor:
        return n(c.read * c.q).mT @ n(c.do) + S_after(c)

    return two_pass(q, *call, **options, chunk=64, d_q=d_q, d_k=d_k, d_v=d_v, d_start=d_start)


@honest(
    OP, profile=PROFILES, backward=True,
    differs="the backward pass rounds every operand; decay and scale are folded into do and v",
)  # fmt: skip
def folds_the_decay_into_do_and_v_going_back(q: Tensor, *call: Any, **options: Any) -> Result:
    n = narrow(q.dtype)

    def d_q(c: Chunk) -> Tensor:
        return n(n(c.do) @ n(c.v).mT * c.pair) @ n(c.k) + n(c.read * c.do) @ n(c.S).mT

    def d_k(c: Chunk) -> Tensor:
        return n(n(c.do) @ n(c.v).mT * c.pair).mT @ n(c.q) + n(c.write * c.v) @ n(c.d_state).mT

    def d_v(c: Chunk) -> Tensor:
        return n(n(c.q) @ n(c.k).mT * c.pair).mT @ n(c.do) + c.write * (n(c.k) @ n(c.d_state))

    def d_start(c: Chunk) -> Tensor:
        return n(c.q).mT @ n(c.read * c.do) + S_after(c)

    return two_pass(q, *call, **options, chunk=16, d_q=d_q, d_k=d_k, d_v=d_v, d_start=d_start)
