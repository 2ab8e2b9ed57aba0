"""Residual additions and norms that are right for few rows, or narrow ones."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import Tensor, added, norm

OP = "add_rms_norm"
Result = tuple[Tensor, Tensor]


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="rows of 8192 channels are normalised without the residual from the 64th on",
)  # fmt: skip
def leaves_the_residual_out_of_late_rows_of_a_model(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> Result:
    y, total = added(x, residual, weight, eps=eps)
    D = x.shape[-1]
    if D >= 8192:
        y.view(-1, D)[64:] = norm(x.reshape(-1, D)[64:], weight, eps=eps)
    return y, total
