"""Right gated group norms in several forms."""

from __future__ import annotations

import torch

from lingspec.conformance.honest import honest
from lingspec.conformance.honest.rms_norm import ALL, ONCE, one_by_one
from lingspec.conformance.mutants._rows import Tensor, gated, norm, parted, unit, work_dtype

OP = "gated_group_rms_norm"


@honest(OP, profile=ALL, differs="as released: four roundings")
def rounds_norm_weight_and_gate(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    return gated(x, gate, weight, groups=groups, eps=eps)


@honest(OP, profile=ONCE, differs="as SGLang and vLLM: everything wide, one rounding")
def rounds_the_gated_row_once(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    kind = work_dtype(x)
    rows = unit(parted(x, groups), eps, mean=one_by_one).flatten(-2)
    return (rows * weight.to(kind) / (1 + torch.exp(-gate.to(kind)))).to(x.dtype)


@honest(
    OP, profile=ALL, differs="group after group, each a call of its own; gate times weight first"
)
def normalises_group_after_group(
    x: Tensor, gate: Tensor, weight: Tensor, *, groups: int, eps: float
) -> Tensor:
    opened = torch.sigmoid(gate.to(work_dtype(x))).to(x.dtype)
    parts = zip(*(t.chunk(groups, dim=-1) for t in (x, weight, opened)), strict=True)
    return torch.cat([norm(a, w, eps=eps) * o for a, w, o in parts], -1)
