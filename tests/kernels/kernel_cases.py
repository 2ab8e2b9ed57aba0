"""Inputs for the kernels, the float64 truth, and how far from it rounding may take a kernel."""

from pathlib import Path

import torch
from torch import Tensor

from lingspec import reference

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
DTYPES = [F32, BF16, F16]
UNIT = {F32: 2.0**-24, BF16: 2.0**-8, F16: 2.0**-11}  # half the distance of 1 and the next number
DECAYS = (-0.013, 0.0, -0.7)


def draw(B=2, T=9, H=3, K=12, V=20, dtype=F32, seed=0, state=True, packed=None, decays=DECAYS):
    """A call of `lightning_attention`: each head has another decay, no two dims are equal."""
    g = torch.Generator().manual_seed(seed)
    B = 1 if packed is not None else B
    T = packed[-1] if packed is not None else T
    call = {
        "q": torch.randn(B, T, H, K, generator=g).to(dtype),
        "k": torch.randn(B, T, H, K, generator=g).to(dtype),
        "v": torch.randn(B, T, H, V, generator=g).to(dtype),
        "log_decay": torch.tensor([decays[h % len(decays)] for h in range(H)]),
        "scale": 0.37,
    }
    N = B
    if packed is not None:
        call["cu_seqlens"] = torch.tensor(packed, dtype=torch.int32 if seed % 2 else torch.int64)
        N = len(packed) - 1
    if state:
        call["initial_state"] = torch.randn(N, H, K, V, generator=g)
    return call


def among_nans(x: Tensor) -> Tensor:
    """The same values in the middle of a larger tensor of NaN (or of -77)."""
    poison = float("nan") if x.dtype.is_floating_point else -77
    around = torch.full([n + 3 for n in x.shape], poison, dtype=x.dtype)
    view = around[tuple(slice(1, n + 1) for n in x.shape)]
    view.copy_(x)
    return view


def far_apart(path: Path, elements: int, dtype: torch.dtype) -> Tensor:
    """A tensor of zeros whose memory is a sparse file: only what is touched takes space."""
    with path.open("wb") as file:
        file.truncate(elements * dtype.itemsize)
    storage = torch.UntypedStorage.from_file(str(path), False, elements * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage)


def wide(call: dict) -> dict:
    """The call in float64."""
    return {
        name: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x
        for name, x in call.items()
    }


def truth(call: dict) -> tuple[Tensor, Tensor]:
    """o and the final state by the reference, in float64."""
    return reference.lightning_attention(**wide(call))


def truth_with_gradients(call: dict, do: Tensor, dfinal: Tensor) -> dict[str, Tensor]:
    """The gradients of the reference, in float64, by autograd."""
    call = wide(call)
    leaves = {n: call[n].requires_grad_() for n in ("q", "k", "v", "initial_state") if n in call}
    o, final = reference.lightning_attention(**call)
    cotangents = (do.double(), dfinal.double())
    found = torch.autograd.grad(
        (o, final), list(leaves.values()), cotangents, materialize_grads=True, allow_unused=True
    )
    return dict(zip(leaves, found, strict=True))


def scan_limits(
    q, k, v, log_decay, *, read, write, initial, dtype, packed=None, reverse=False
) -> tuple[Tensor, Tensor]:
    """How far o and the final state of one scan may be from the truth.

    With u the unit of the input dtype, P_ij = read write decay^(i-j) q_i.k_j and S_i the state
    that row i reads: o_i is a sum of P_ij v_j, each of which passes the rounding of P_ij or of the
    decayed v_j, and that of S_i. Independent roundings of relative size u add in squares:

        s_i^2 = sum_j 2 (P_ij v_j)^2 + sum_k (read q_ik S_ik)^2        u s_i is their deviation

    (2 u s_i is 3.4 standard deviations of a uniform error, 4 u s_i nearly 7), the result is
    rounded once, and float32 sums of n terms of absolute sum A are off by a few sqrt(n) 2^-24 A.
    The state: likewise, with the one rounding of the decayed v.
    """
    u = 0.0 if dtype == F32 else UNIT[dtype]
    q, k, v, log_decay = (x.double() for x in (q, k, v, log_decay))
    N, T = q.shape[0] if packed is None else len(packed) - 1, q.shape[1]
    ends = packed or [0, T]
    o = torch.zeros_like(v)
    states = torch.zeros(N, q.shape[2], q.shape[3], v.shape[3], dtype=torch.float64)
    for n, (first, last) in enumerate(zip(ends, ends[1:], strict=False)):
        rows = slice(n, n + 1) if packed else slice(None)
        part = [x[:, first:last].flip(1) if reverse else x[:, first:last] for x in (q, k, v)]
        X = None if initial is None else initial[rows].double()
        one, states[rows] = _limits(*part, log_decay, read, write, X, u, UNIT[dtype], reverse)
        o[:, first:last] = one.flip(1) if reverse else one
    return o, states


def _limits(q, k, v, log_decay, read, write, X, u, u_out, reverse):
    B, L, H, K = q.shape
    V = v.shape[3]
    late = 1 if reverse else 0  # the reversed scan reads before it decays
    i = torch.arange(L, dtype=torch.float64)
    ahead = i[:, None] - i[None, :]
    decay = torch.where(ahead >= 0, log_decay[:, None, None] * ahead.clamp(min=0), -torch.inf).exp()
    k = k * write
    P = read * torch.einsum("bihk,bjhk->bhij", q, k) * decay
    absP = abs(read) * torch.einsum("bihk,bjhk->bhij", q.abs(), k.abs()) * decay
    S = torch.einsum("hij,bjhk,bjhv->bihkv", decay, k, v)
    absS_end = torch.zeros(B, H, K, V, dtype=torch.float64)
    squares_end = torch.zeros_like(absS_end)
    if L:
        last = decay[:, -1] * (log_decay[:, None] * late).exp()
        absS_end = torch.einsum("hj,bjhk,bjhv->bhkv", last, k.abs(), v.abs())
        squares_end = torch.einsum("hj,bjhk,bjhv->bhkv", last**2, k**2, v**2)
    absS = torch.zeros_like(S)
    if X is not None:
        since = (log_decay[None, :] * (i[:, None] + 1 - late)).exp()
        absS = since[None, :, :, None, None] * X[:, None].abs()
        S = S + since[None, :, :, None, None] * X[:, None]
        absS_end = absS_end + (log_decay * L).exp()[:, None, None] * X.abs()
    y = read * torch.einsum("bihk,bihkv->bihv", q, S)
    A = torch.einsum("bhij,bjhv->bihv", absP, v.abs())
    A = A + abs(read) * torch.einsum("bihk,bihkv->bihv", q.abs(), absS)
    squares = 2 * torch.einsum("bhij,bjhv->bihv", P**2, v**2)
    squares = squares + read**2 * torch.einsum("bihk,bihkv->bihv", q**2, S**2)
    sums = 4 * (L + K + 8) ** 0.5 * 2.0**-24
    small = 2.0**-110  # decays below 2^-126 may be flushed to 0
    tiny = 2.0**-25 if u_out == UNIT[F16] else small  # half of float16's smallest subnormal
    return u_out * y.abs() + 4 * u * squares.sqrt() + sums * A + tiny, (
        4 * u * squares_end.sqrt() + sums * absS_end + small
    )


def limits(call: dict) -> tuple[Tensor, Tensor]:
    """`scan_limits` of the forward call."""
    return scan_limits(
        call["q"], call["k"], call["v"], call["log_decay"], read=call["scale"], write=1.0,
        initial=call.get("initial_state"), dtype=call["q"].dtype, packed=_packed(call),
    )  # fmt: skip


def gradient_limits(call: dict, do: Tensor, dfinal: Tensor) -> dict[str, Tensor]:
    """`scan_limits` of the three scans that the gradients are."""
    q, k, v, scale = call["q"], call["k"], call["v"], call["scale"]
    rest = {"dtype": q.dtype, "packed": _packed(call), "log_decay": call["log_decay"]}
    S = call.get("initial_state")
    ST, dST = (None if S is None else S.mT), dfinal.mT
    found = {
        "q": scan_limits(do, v, k, read=scale, write=1.0, initial=ST, **rest)[0],
        "k": scan_limits(v, do, q, read=1.0, write=scale, initial=dST, reverse=True, **rest)[0],
    }
    found["v"], found["initial_state"] = scan_limits(
        k, q, do, read=1.0, write=scale, initial=dfinal, reverse=True, **rest
    )
    return found


def _packed(call: dict) -> list[int] | None:
    return call["cu_seqlens"].tolist() if "cu_seqlens" in call else None


def assert_within(name: str, got: Tensor, want: Tensor, limit: Tensor) -> None:
    """Raise where ``got`` is not finite, or farther from ``want`` than ``limit``."""
    assert got.shape == want.shape, f"{name} has shape {tuple(got.shape)}, not {tuple(want.shape)}"
    assert got.isfinite().all(), f"{name} has {int((~got.isfinite()).sum())} values not finite"
    over = (got.double() - want).abs() / limit.clamp(min=1e-300)
    over = torch.where(got.double() == want, 0.0, over)
    if over.numel() and over.max() > 1:
        at = tuple(int(x) for x in torch.unravel_index(over.argmax(), over.shape))
        message = f"{name}{list(at)} is {got[at].item():.9g}, should be {want[at].item():.9g}: "
        raise AssertionError(message + f"{over.max().item():.3g} times the limit")
