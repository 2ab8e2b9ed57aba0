"""The routed experts, and the weighted sum of what they return.

Letters: T tokens, D hidden size, E experts, I hidden channels of an expert, k chosen experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import on_one_device, require
from lingspec.reference.ops.swiglu import swiglu
from lingspec.reference.precision import check_float, work, work_dtype
from lingspec.reference.rounding import at

__all__ = ["combined", "expert", "moe_experts"]


@on_one_device
def moe_experts(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    """Every token through its experts, added up with its weights.

        y[t] = sum_j weights[t, j] * round(down[e] swiglu(gate_up[e] x[t]))        e = experts[t, j]

    Args:
        x:       (T, D)     float64, float32, bfloat16 or float16.
        gate_up: (E, 2I, D) dtype of ``x``; the rows of the gate first, then those of up.
        down:    (E, D, I)  dtype of ``x``.
        experts: (T, k)     int32 or int64, below E. -1 contributes nothing: that expert is on
                            another rank.
        weights: (T, k)     float32; float64 where ``x`` is.

    Returns:
        (T, D), the dtype of ``x``.

    Precision:
        Products are summed in float32 (float64 for float64). gate_up x, swiglu and an expert's
        result are rounded to the dtype of ``x``; the weighted sum is in float32 and rounded once.

    Raises:
        ContractError: a shape, a dtype or an index that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:411-441.
    """
    _check(x, gate_up, down, experts, weights)
    results = x.new_zeros(*experts.shape, x.shape[1])  # (T, k, D)
    for e in sorted(set(experts.flatten().tolist()) - {-1}):
        here = experts == e
        token = here.nonzero()[:, 0]
        gate, up = gate_up[e].chunk(2)
        results[here] = expert(x[token], gate, up, down[e])
    return combined(results, weights)


def expert(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """One expert, or a dense MLP, on tokens: (N, D) to (N, D); gate and up (I, D), down (D, I)."""
    halves = [_product(x, matrix) for matrix in (gate, up)]
    hidden = at("hidden", torch.cat(halves, dim=-1))  # (N, 2I)
    activated = at("activated", swiglu(hidden))
    return at("expert", _product(activated, down))


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    return (at("operand", work(x)) @ at("operand", work(matrix)).mT).to(x.dtype)


def combined(results: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of what a token's experts returned: (T, k, D) and (T, k) to (T, D)."""
    return at("output", (work(results) * weights[..., None]).sum(dim=1).to(results.dtype))


def _check(x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor) -> None:
    check_float(x, "x")
    require(x.dim() == 2, "x", "shape", tuple(x.shape), "(T, D)")
    T, D = x.shape
    shape = tuple(gate_up.shape)
    ok = len(shape) == 3 and shape[1] % 2 == 0 and shape[2] == D
    require(ok, "gate_up", "shape", shape, f"(E, 2I, {D})")
    want = (shape[0], D, shape[1] // 2)
    require(tuple(down.shape) == want, "down", "shape", tuple(down.shape), f"{want}, as gate_up")
    for name, tensor in (("gate_up", gate_up), ("down", down)):
        require(tensor.dtype == x.dtype, name, "dtype", tensor.dtype, f"{x.dtype}, as x")
    ok = experts.dim() == 2 and experts.shape[0] == T
    require(ok, "experts", "shape", tuple(experts.shape), f"({T}, k)")
    ok = experts.dtype in (torch.int32, torch.int64)
    require(ok, "experts", "dtype", experts.dtype, "int32 or int64")
    ok = bool(((experts >= -1) & (experts < shape[0])).all())
    require(ok, "experts", "values", experts.tolist(), f"-1, or indices below {shape[0]}")
    same = weights.shape == experts.shape
    require(same, "weights", "shape", tuple(weights.shape), f"{tuple(experts.shape)}, as experts")
    want_dtype = work_dtype(x)
    require(weights.dtype == want_dtype, "weights", "dtype", weights.dtype, f"{want_dtype}")
