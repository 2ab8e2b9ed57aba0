"""Liger: norms, the gated activation, the rotation in halves, and the fused experts.

Norms are called in the mode `llama`, the package's default and what Ling's code does: the rows
are normalised in float32, rounded to their dtype, then weighed. The rotation is in place, so it
is given copies; it rotates queries and keys in one call, and each is a candidate of its own.
"""

from typing import Any

import torch
from liger_kernel.ops import (
    LigerFusedAddRMSNormFunction,
    LigerFusedMoEFunction,
    LigerRMSNormFunction,
    LigerRopeFunction,
    LigerSiLUMulFunction,
)
from liger_kernel.ops.swiglu import LigerFusedGateUpSiLUMulFunction

from lingspec.conformance.adapter import implements

PACKAGES = ("liger_kernel.ops",)
# rms_norm.py:144-148: float32 up to the cast to x's dtype, then `X_row * (offset + W_row)`; the
# offset is a float32 zero, so that product is one of float32, rounded when it is stored.
# fused_add_rms_norm.py:75: `X_row + R_row` in their dtype: the sum is rounded before the norm.
# swiglu.py:73: silu in float32, cast to up's dtype before the product.
SPEC = {"float32": "fp32", "bfloat16": "fp32+spec=bf16", "float16": "fp32+spec=fp16"}
# rope.py:74: heads are cast to the tables' dtype, ours float32.
WIDE = dict.fromkeys(("float32", "bfloat16", "float16"), "fp32")
# fused_moe_kernels.py: operands of tl.dot in the dtype of x (tf32 for float32, Triton's default),
# sums in float32; the activation and what an expert returns are stored in the dtype of x.
DOT = {"float32": "tf32", "bfloat16": "bf16-tc", "float16": "fp16-tc"}


@implements("rms_norm", profile=SPEC, packages=PACKAGES)
def rms_norm(x, weight, *, eps):  # type: ignore[no-untyped-def] # as the op
    return LigerRMSNormFunction.apply(x, weight, eps)


@implements("add_rms_norm", profile=SPEC, packages=PACKAGES)
def add_rms_norm(x, residual, weight, *, eps):  # type: ignore[no-untyped-def] # as the op
    return LigerFusedAddRMSNormFunction.apply(x, residual, weight, eps)


def _some_channels(case: Any) -> bool | str:
    return case.I > 0 or "no rows of no channels"


@implements("swiglu", profile=SPEC, supports=_some_channels, packages=PACKAGES)
def swiglu(gate_up):  # type: ignore[no-untyped-def] # as the op
    gate, up = gate_up.chunk(2, dim=-1)
    return LigerSiLUMulFunction.apply(gate, up)


@implements("swiglu", profile=SPEC, supports=_some_channels, packages=PACKAGES)
def swiglu_fused(gate_up):  # type: ignore[no-untyped-def] # as the op
    return LigerFusedGateUpSiLUMulFunction.apply(gate_up)


@implements("partial_rope", profile=WIDE, packages=PACKAGES)
def partial_rope(x, cos, sin):  # type: ignore[no-untyped-def] # as the op
    return _rotated(x, cos, sin)[0]


@implements("partial_rope", profile=WIDE, packages=PACKAGES)
def partial_rope_of_keys(x, cos, sin):  # type: ignore[no-untyped-def] # as the op
    return _rotated(x, cos, sin)[1]


def _rotated(x: Any, cos: Any, sin: Any) -> Any:
    R = 2 * cos.shape[-1]
    q, k = (x.clone().transpose(1, 2) for _ in "qk")  # (B, H, T, K)
    q, k = LigerRopeFunction.apply(q, k, cos, sin, None, 1, R)
    return q.transpose(1, 2), k.transpose(1, 2)


def _all_here(case: Any) -> bool | str:
    return not case.foreign or "no expert -1"


@implements("moe_experts", profile=DOT, supports=_all_here, packages=PACKAGES)
def moe_experts(x, gate_up, down, experts, weights):  # type: ignore[no-untyped-def] # as the op
    return LigerFusedMoEFunction.apply(x, gate_up, down, experts.to(torch.int32), weights)
