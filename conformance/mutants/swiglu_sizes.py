"""Gated activations that are right for rows of usual lengths."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._rows import Tensor, activated

OP = "swiglu"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="channels from the 1024th on are not multiplied",
)  # fmt: skip
def multiplies_1024_channels(gate_up: Tensor) -> Tensor:
    y = activated(gate_up)
    if y.shape[-1] > 1024:
        y[..., 1024:] = gate_up.chunk(2, dim=-1)[1][..., 1024:]
    return y


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="rows from the 256th on are zeros",
)  # fmt: skip
def activates_256_rows(gate_up: Tensor) -> Tensor:
    y = activated(gate_up)
    if y.dim() > 1:
        y.flatten(0, -2)[256:] = 0.0
    return y


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of rows of more than 4096, what no tile of 4096 holds is lost",
)  # fmt: skip
def writes_whole_tiles_of_4096(gate_up: Tensor) -> Tensor:
    y = activated(gate_up)
    width = y.shape[-1]
    if width > 4096:
        y[..., width // 4096 * 4096 :] = 0.0
    return y


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="rows of 1024 channels and more have the gates of the row before from the 128th on",
)  # fmt: skip
def opens_the_gates_of_the_row_before(gate_up: Tensor) -> Tensor:
    y = activated(gate_up)
    J = gate_up.shape[-1]
    if J >= 2048:
        rows = gate_up.reshape(-1, J).clone()
        rows[128:, : J // 2] = rows[127:-1, : J // 2].clone()
        y = activated(rows).view(y.shape)
    return y


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of whole tiles of 128 rows, the last row has the gates of the one before",
)  # fmt: skip
def opens_the_gates_of_the_last_row_of_whole_tiles(gate_up: Tensor) -> Tensor:
    y = activated(gate_up)
    J = gate_up.shape[-1]
    rows = gate_up.reshape(-1, J).clone()
    if len(rows) and len(rows) % 128 == 0:
        rows[-1, : J // 2] = rows[-2, : J // 2].clone()
    return activated(rows).view(y.shape)
