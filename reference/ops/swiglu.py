"""The gated activation of all MLPs.

Letters: I hidden channels of an expert or an MLP.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lingspec.reference.checks import require
from lingspec.reference.precision import check_float, work
from lingspec.reference.rounding import at

__all__ = ["swiglu"]


def swiglu(gate_up: Tensor) -> Tensor:
    """SiLU of the first half times the second half.

        y[i] = round(g[i] sigmoid(g[i])) * u[i]        g = gate_up[..., :I], u = gate_up[..., I:]

    Args:
        gate_up: (..., 2I) float64, float32, bfloat16 or float16.

    Returns:
        (..., I), the dtype of ``gate_up``.

    Precision:
        float32 (float64 for float64) up to ``round``, which is to the dtype of ``gate_up``; the
        product is rounded to it as well.

    Raises:
        ContractError: a shape or a dtype that is not as above.

    Source:
        inclusionAI/Ling-V2.5 @79c5ec5, modeling_bailing_moe_v2_5.py:288-301.
    """
    check_float(gate_up, "gate_up")
    ok = gate_up.dim() >= 1 and gate_up.shape[-1] % 2 == 0
    require(ok, "gate_up", "shape", tuple(gate_up.shape), "(..., 2I)")
    gate, up = gate_up.chunk(2, dim=-1)
    wide = work(gate)
    opened = at("silu", (wide * at("sigmoid", torch.sigmoid(wide))).to(gate.dtype))
    return at("output", opened * up)
