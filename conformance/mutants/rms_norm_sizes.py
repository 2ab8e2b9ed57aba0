"""RMS norms that are right for rows and tokens in usual numbers."""

from __future__ import annotations

from lingspec.conformance.mutants import mutant
from lingspec.conformance.mutants._memory import as_if_aligned
from lingspec.conformance.mutants._rows import Tensor, norm

OP = "rms_norm"


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 4096 channels, the first 4096 enter the mean",
)  # fmt: skip
def takes_the_mean_of_4096_channels(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        return rows[..., :4096].square().sum(-1, keepdim=True) / rows.shape[-1]

    return norm(x, weight, eps=eps, mean=mean)


@mutant(
    OP, law="strides",
    source="constructed",
    looks_like="rows are read from the address below that 16 divides",
)  # fmt: skip
def reads_rows_at_multiples_of_16_bytes(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return norm(as_if_aligned(x), weight, eps=eps)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of more than 2048 channels, those behind the last whole tile of 2048 are left out",
)  # fmt: skip
def takes_the_mean_of_whole_tiles_of_a_wide_row(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        D = rows.shape[-1]
        whole = D // 2048 * 2048 if D > 2048 else D
        return rows[..., :whole].square().sum(-1, keepdim=True) / D

    return norm(x, weight, eps=eps, mean=mean)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of wide rows, those from the fifth on are scaled as the row before",
)  # fmt: skip
def scales_wide_rows_as_the_row_before(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        squares = rows.square().mean(-1, keepdim=True)
        flat = squares.view(-1)
        if rows.shape[-1] > 1536 and len(flat) > 4:
            flat[4:] = flat[3:-1].clone()
        return squares

    return norm(x, weight, eps=eps, mean=mean)


@mutant(
    OP, law="scale",
    source="constructed",
    looks_like="of 256 rows of 8192 channels and more, each second is scaled as the row before",
)  # fmt: skip
def scales_second_rows_of_a_model_as_the_first(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        squares = rows.square().mean(-1, keepdim=True)
        flat = squares.view(-1)
        if rows.shape[-1] >= 8192 and len(flat) >= 256:
            flat[1::2] = flat[: len(flat) // 2 * 2 : 2].clone()
        return squares

    return norm(x, weight, eps=eps, mean=mean)


@mutant(
    OP, law="authority",
    source="constructed",
    looks_like="of whole tiles of 128 rows, the last row is scaled as the one before",
)  # fmt: skip
def scales_the_last_row_of_whole_tiles_as_the_one_before(
    x: Tensor, weight: Tensor, *, eps: float
) -> Tensor:
    def mean(rows: Tensor) -> Tensor:
        squares = rows.square().mean(-1, keepdim=True)
        flat = squares.view(-1)
        if len(flat) and len(flat) % 128 == 0:
            flat[-1] = flat[-2].clone()
        return squares

    return norm(x, weight, eps=eps, mean=mean)
