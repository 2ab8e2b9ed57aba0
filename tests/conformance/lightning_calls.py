"""Calls of the lightning ops, their float64 answers, and limits for the distance to them.

B batch, T tokens, N sequences, H heads, K key dim, V value dim, P pool rows.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

Tensor = torch.Tensor
Call = dict[str, Any]
UNIT = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in UNIT}


def recurrence(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    """S_t = exp(g) S_{t-1} + k_t v_t^T and o_t = scale S_t^T q_t, in float64."""
    q, k, v, g = (x.double() for x in (q, k, v, log_decay))
    B, T, H, K = q.shape
    ends = None if cu_seqlens is None else cu_seqlens.tolist()
    spans = [(b, 0, T) for b in range(B)] if ends is None else [(0, *e) for e in pairwise(ends)]
    final = torch.zeros(len(spans), H, K, v.shape[-1], dtype=torch.float64)
    if initial_state is not None:
        final = initial_state.double().clone()
    rows: list[list[Tensor]] = [[v[b, :0]] for b in range(B)]
    states = [final[:0]]
    for (b, first, last), S in zip(spans, final, strict=True):
        for t in range(first, last):
            S = g.exp()[:, None, None] * S + k[b, t, :, :, None] * v[b, t, :, None, :]
            rows[b].append((scale * q[b, t, :, None] @ S).reshape(1, H, -1))
        states.append(S[None])
    o = [torch.cat(row) for row in rows]
    return torch.stack(o) if o else 0 * v, torch.cat(states)


def limits(call: Call, o: Tensor, state: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """How far o and the final state may be from float64.

    One rounding of o; at most four roundings of operands per term (q after the scale, k after the
    decay, score, state as read); T + K sums, and 128 for the exponent's error, in float32.
    """
    absolute = {n: x.double().abs() for n, x in call.items() if n in ("q", "k", "v")}
    if call["initial_state"] is not None:
        absolute["initial_state"] = call["initial_state"].double().abs()
    sums, state_sums = recurrence(**{**call, **absolute})
    wide = UNIT[torch.float64 if dtype == torch.float64 else torch.float32]
    arithmetic = (call["q"].shape[1] + call["q"].shape[3] + 128) * wide
    operands = 4 * UNIT[dtype]
    tiny = 2.0**-126
    return (
        UNIT[dtype] * o.abs() + (operands + arithmetic) * sums + tiny,
        (operands + arithmetic) * state_sums + tiny,
    )


def apart(x: Tensor) -> Tensor:
    """``x`` as every other element of a larger buffer of NaN, its first two axes exchanged."""
    shape = list(x.shape)
    if x.ndim > 1:
        shape[0], shape[1] = shape[1], shape[0]
    buffer = torch.full([n + 1 for n in shape[:-1]] + [2 * shape[-1] + 1], torch.nan, dtype=x.dtype)
    view = buffer[tuple(slice(0, n) for n in shape[:-1])][..., 1::2]
    return (view.transpose(0, 1) if x.ndim > 1 else view).copy_(x)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention_call(
    B=1, T=9, H=3, K=5, V=7, g=(-0.3, -0.004, 0.0), cu=None, state=True, dtype=torch.float32, sign=1
) -> Call:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    N = B if cu is None else len(cu) - 1
    values = [normal(i, B, T, H, D) for i, D in enumerate((K, K, V))]
    if sign == 0:  # all positive
        values = [x.abs() for x in values]
    return {
        **{name: x.to(dtype) for name, x in zip("qkv", values, strict=True)},
        "log_decay": torch.tensor(g, dtype=wide),
        "scale": 0.37,
        "initial_state": normal(4, N, H, K, V).to(wide) if state else None,
        "cu_seqlens": None if cu is None else torch.tensor(cu, dtype=torch.int32),
    }


SLOPES = (-0.3, -1e-5, 0.0, -30.0, -0.004, -200.0)
ATTENTION: dict[str, Call] = {
    "several chunks and a tail": {"B": 2, "T": 150, "K": 9, "V": 20, "g": SLOPES[:3]},
    "whole chunks": {"B": 2, "T": 64, "K": 20, "V": 9, "g": SLOPES[2:5]},
    "six heads": {"T": 17, "H": 6, "K": 33, "V": 40, "g": SLOPES, "state": False},
    "square": {"T": 5, "K": 6, "V": 6},
    "packed": {"T": 45, "H": 2, "g": (-0.004, -0.1), "V": 20, "cu": [0, 0, 4, 5, 24, 24, 45]},
    "long": {"T": 260, "H": 2, "g": (-0.004, 0.0)},
    "no tokens": {"B": 2, "T": 0},
}


def decode_call(seed=0, slots=(4, -1, 0, 2), K=5, V=20, P=6, H=3, dtype=torch.float32) -> Call:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    B = len(slots)
    return {
        "q": normal(seed, B, H, K).to(dtype),
        "k": normal(seed + 1, B, H, K).to(dtype),
        "v": normal(seed + 2, B, H, V).to(dtype),
        "log_decay": torch.tensor([-0.3, -0.004, -30.0][:H], dtype=wide),
        "state_pool": normal(seed + 3, P, H, K, V).to(wide),
        "slots": torch.tensor(slots, dtype=torch.int64),
        "scale": 0.37,
    }


DECODE: list[Call] = [{}, {"slots": (-1, -1, 1)}, {"slots": (3, 5)}, {"slots": ()}]


def decode_answer(call: Call) -> tuple[Tensor, Tensor]:
    """o and the pool after the call, in float64; rows of padding are 0."""
    pool = call["state_pool"].double().clone()
    o = torch.zeros(call["v"].shape, dtype=torch.float64)
    for b, slot in enumerate(call["slots"].tolist()):
        if slot >= 0:
            one = {name: call[name][b][None, None] for name in "qkv"}
            read, state = recurrence(
                **one, log_decay=call["log_decay"], scale=call["scale"],
                initial_state=pool[slot][None],
            )  # fmt: skip
            o[b], pool[slot] = read[0, 0], state[0]
    return o, pool


def of(op, entries, **wanted):
    """Those in plain PyTorch; what needs Triton needs the emulator, and so the self-test."""
    return {
        name: entry
        for name, entry in entries.items()
        if entry.declaration.op == op
        and not entry.module.endswith("_triton")
        and all(getattr(entry.declaration, key) == value for key, value in wanted.items())
    }


def dtypes(entry):
    declared = entry.declaration.profile
    return list(DTYPES) if declared is None else list(declared)


def parameters(op, entries, **wanted):
    return pytest.mark.parametrize(
        "entry", [pytest.param(e, id=n) for n, e in of(op, entries, **wanted).items()]
    )


def run(entry, call):
    if entry.declaration.array == "torch":
        return entry.function(**call)
    given = {n: x.numpy() if isinstance(x, torch.Tensor) else x for n, x in call.items()}
    return torch.as_tensor(entry.function(**given))


def copied(call, place=torch.clone):
    return {
        name: place(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for name, x in call.items()
    }
