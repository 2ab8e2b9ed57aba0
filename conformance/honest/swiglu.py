"""Right gated activations in several forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.rms_norm import ALL, ONCE
from lingspec.conformance.mutants._rows import Tensor, activated, work_dtype

OP = "swiglu"


@honest(OP, profile=ALL, differs="as released: the activation is rounded, then the product")
def rounds_the_activation(gate_up: Tensor) -> Tensor:
    return activated(gate_up)


@honest(OP, profile=ONCE, differs="a quotient, everything wide, one rounding")
def divides_by_one_and_an_exponential(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.to(work_dtype(gate_up)).chunk(2, dim=-1)
    return (gate / (1 + torch.exp(-gate)) * up).to(gate_up.dtype)


@honest(
    OP, profile={"float32": "fp32", "bfloat16": "fp32", "float16": "fp32"},
    differs="float64 inside; up times gate first",
)  # fmt: skip
def multiplies_gate_and_up_in_float64(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.double().chunk(2, dim=-1)
    return (gate * up * torch.sigmoid(gate)).to(gate_up.dtype)


@honest(
    OP, array="numpy", profile={"float64": "fp64", "float32": "fp32"},
    differs="NumPy, the exponential of the negative absolute gate",
)  # fmt: skip
def activates_with_numpy(gate_up: Any) -> Any:
    gate, up = np.split(gate_up, 2, axis=-1)
    falling = np.exp(-np.abs(gate))
    return gate * np.where(gate >= 0, 1, falling) / (1 + falling) * up
