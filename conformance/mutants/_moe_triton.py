"""Small right Triton kernels for the router and the experts, with switches for mistakes."""

# Triton has no types for a kernel's arguments.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor]


@triton.jit
def logits_kernel(
    x, weight, y, T, E, D, x_t, x_d, w_e, w_d,
    BT: tl.constexpr, BE: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   y[t, e] = sum_d x[t, d] weight[e, d], float32.
    # Program    BT tokens, BE experts. Grid (cdiv(T, BT), cdiv(E, BE)).
    # Masking    channels >= D load 0; rows behind the last are not stored.
    # Integers   offsets are int64.
    t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    e = tl.program_id(1).to(tl.int64) * BE + tl.arange(0, BE)
    total = tl.zeros((BT, BE), tl.float32)
    last = D
    if FAULT == "no tail of channels":
        last = D // BD * BD
    for first in range(0, last, BD):
        d = first + tl.arange(0, BD)
        inside = d[None, :] < D
        if FAULT == "lanes unmasked":
            inside = d[None, :] < D + 1
        at_x = t[:, None] * x_t + d[None, :].to(tl.int64) * x_d
        if FAULT == "int32 offsets":
            at_x = (t[:, None].to(tl.int32) * x_t + d[None, :] * x_d).to(tl.int32).to(tl.int64)
        a = tl.load(x + at_x, mask=(t[:, None] < T) & inside, other=0.0)
        at_w = e[:, None] * w_e + d[None, :].to(tl.int64) * w_d
        b = tl.load(weight + at_w, mask=(e[:, None] < E) & inside, other=0.0)
        total += tl.dot(a, tl.trans(b), input_precision=PRECISION)
    if FAULT == "bf16 result":
        total = total.to(tl.bfloat16).to(tl.float32)
    stored = (t[:, None] < T) & (e[None, :] < E)
    tl.store(y + t[:, None] * E + e[None, :], total, mask=stored)


def logits(
    x: Tensor, weight: Tensor, *, tile: int = 16, precision: str = "ieee", fault: str = ""
) -> Tensor:
    """Launch the kernel."""
    (T, D), E = x.shape, len(weight)
    y = torch.empty(T, E, dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(T, 16), triton.cdiv(E, 16))
    if y.numel():
        logits_kernel[grid](
            x, weight, y, T, E, D, *x.stride(), *weight.stride(),
            BT=16, BE=16, BD=tile, PRECISION=precision, FAULT=fault,
        )  # fmt: skip
    return y


@triton.jit
def experts_kernel(
    x, gate_up, down, experts, weights, y, D, hidden, E, C,
    x_t, x_d, g_e, g_j, g_d, w_e, w_d, w_i,
    BD: tl.constexpr, BI: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   y[t] = sum_j weights[t, j] down swiglu(gate_up x[t]), one token a program.
    # Precision  sums are float32; halves, SiLU, hidden channels and results are rounded to x's.
    # Masking    lanes >= D and >= hidden load 0; expert -1 is left out.
    # Integers   offsets are int64.
    t = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BD).to(tl.int64)
    i = tl.arange(0, BI).to(tl.int64)
    kind = x.dtype.element_ty
    row = tl.load(x + t * x_t + d * x_d, mask=d < D, other=0.0).to(tl.float32)
    total = tl.zeros((BD,), tl.float32)
    last = C
    if FAULT == "an even number of choices":
        last = C - C % 2 * (C > 1)
    for j in range(last):
        e = tl.load(experts + t * C + j).to(tl.int64)
        at_w = t * C + j
        if FAULT == "weights by choice":
            at_w = j * tl.num_programs(0) + t
        w = tl.load(weights + at_w)
        if FAULT == "expert -1 is 0":
            e = tl.maximum(e, 0)
        here = e >= 0
        e = tl.maximum(e, 0)
        inside = (i[:, None] < hidden) & (d[None, :] < D) & here
        loaded = inside
        if FAULT == "hidden lanes unmasked":
            loaded = (i[:, None] < 2 * hidden) & (d[None, :] < D) & here
        at_g = e * g_e + i[:, None] * g_j + d[None, :] * g_d
        if FAULT == "int32 offsets":
            at_g = (e.to(tl.int32) * g_e).to(tl.int32) + i[:, None] * g_j + d[None, :] * g_d
        g = tl.load(gate_up + at_g, mask=loaded, other=0.0).to(tl.float32)
        u = tl.load(gate_up + at_g + hidden * g_j, mask=inside, other=0.0).to(tl.float32)
        gate = tl.sum(g * row[None, :], axis=1).to(kind).to(tl.float32)
        up = tl.sum(u * row[None, :], axis=1).to(kind).to(tl.float32)
        if FAULT == "hidden lanes unmasked":
            up += tl.where(i < hidden, 0.0, 1.0)
        silu = (gate / (1 + tl.exp(-gate))).to(kind).to(tl.float32)
        act = (silu * up).to(kind).to(tl.float32)
        at_d = e * w_e + d[:, None] * w_d + i[None, :] * w_i
        columns = (d[:, None] < D) & (i[None, :] < hidden) & here
        if FAULT == "hidden lanes unmasked":
            columns = (d[:, None] < D) & (i[None, :] < hidden + 1) & (e < E - 1) & here
        m = tl.load(down + at_d, mask=columns, other=0.0).to(tl.float32)
        result = tl.sum(m * act[None, :], axis=1).to(kind).to(tl.float32)
        total += w * result
    tl.store(y + t * D + d, total.to(kind), mask=d < D)


def experts_of(
    x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor, *, fault: str = ""
) -> Tensor:
    """Launch the kernel."""
    (T, D), (E, _, hidden), C = x.shape, down.shape, experts.shape[1]
    y = torch.empty(T, D, dtype=x.dtype, device=x.device)
    if T:
        experts_kernel[(T,)](
            x, gate_up, down, experts.contiguous(), weights.contiguous(), y, D, hidden, E, C,
            *x.stride(), *gate_up.stride(), *down.stride(),
            BD=triton.next_power_of_2(D), BI=triton.next_power_of_2(hidden + 1), FAULT=fault,
        )  # fmt: skip
    return y


@triton.jit
def route_kernel(
    logits, bias, weights, experts, scaling, l_t, l_e,
    G, S, size, top_k,
    BG: tl.constexpr, BS: tl.constexpr, FAULT: tl.constexpr,
):  # fmt: skip
    # Computes   the experts of one token, and their weights, float32.
    # On chip    the scores, BG groups by BS experts.
    # Masking    lanes behind the last group or expert hold -inf; NaN counts as the least number.
    t = tl.program_id(0).to(tl.int64)
    g = tl.arange(0, BG)[:, None]
    s = tl.arange(0, BS)[None, :]
    inside = (g < G) & (s < size)
    e = tl.where(inside, g * size + s, -1)
    z = tl.load(logits + t * l_t + e * l_e, mask=inside, other=0.0)
    p = 1 / (1 + tl.exp(-z))
    b = p + tl.load(bias + e, mask=inside, other=0.0)
    b = tl.where(b == b, b, -1e30)
    outside = float("-inf")
    if FAULT == "padding is 0":
        outside = 0.0
    b = tl.where(inside, b, outside)
    first = tl.max(b, axis=1)
    place = tl.argmax(b, axis=1)
    rest = tl.where(s == place[:, None], float("-inf"), b)
    if FAULT == "ties leave together":
        rest = tl.where(b == first[:, None], float("-inf"), b)
    of_group = first + tl.max(rest, axis=1)
    number = tl.arange(0, BG)
    of_group = tl.where(number < G, of_group, float("-inf"))
    chosen = tl.zeros((BG,), tl.int32)
    for _ in range(S):
        best = tl.argmax(of_group, axis=0)
        chosen = tl.where(number == best, 1, chosen)
        of_group = tl.where(number == best, float("-inf"), of_group)
    left = tl.where((chosen[:, None] == 1) & inside, b, float("-inf"))
    total = 0.0
    for n in range(top_k):
        top = tl.max(tl.max(left, axis=1), axis=0)
        here = tl.min(tl.min(tl.where(left == top, e, 1 << 30), axis=1), axis=0)
        score = tl.sum(tl.sum(tl.where(e == here, p, 0.0), axis=1), axis=0)
        tl.store(experts + t * top_k + n, here.to(tl.int64))
        tl.store(weights + t * top_k + n, score)
        total += score
        left = tl.where(e == here, float("-inf"), left)
    scale = scaling * 1.0
    if top_k > 1:
        scale = scaling / (total + 1e-20)
    for n in range(top_k):
        if FAULT == "one weight short":
            if n < top_k - 1:
                w = tl.load(weights + t * top_k + n)
                tl.store(weights + t * top_k + n, w * scale)
        else:
            w = tl.load(weights + t * top_k + n)
            tl.store(weights + t * top_k + n, w * scale)


def route(
    logits: Tensor, bias: Tensor, *, groups: int, top_groups: int, top_k: int, scaling: float,
    fault: str = "",
) -> Result:  # fmt: skip
    """Launch the kernel."""
    T, E = logits.shape
    weights = torch.empty(T, top_k, dtype=torch.float32, device=logits.device)
    experts = torch.empty(T, top_k, dtype=torch.int64, device=logits.device)
    size = E // groups
    if T:
        route_kernel[(T,)](
            logits, bias, weights, experts, scaling, *logits.stride(),
            groups, top_groups, size, top_k,
            BG=triton.next_power_of_2(groups), BS=triton.next_power_of_2(size), FAULT=fault,
        )  # fmt: skip
    return weights, experts
