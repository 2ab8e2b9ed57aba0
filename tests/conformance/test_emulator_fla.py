"""Unmodified kernels of flash-linear-attention, forward and backward, against a recurrence.

The recurrence is S_t = exp(g_t) S_{t-1} + k_t v_t^T, o_t = scale S_t^T q_t, in float64.
"""

import sys

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("fla")

from lingspec.conformance import emulator

T, H, K, V = 66, 2, 16, 40

# Relative errors in the Euclidean norm. tf32 cuts 13 of 23 bits: up to 2^-10 an operand, half
# of that on average, all of one sign (1.5e-3 seen). bf16 keeps 8: an output's rounding alone is
# 2^-9 / sqrt(3) (2.4e-3 seen, gradients included). Sums of T terms in float32: 7e-7 seen.
TF32, BF16, FP32 = 3e-3, 5e-3, 3e-6
CASES = [
    pytest.param("chunk_simple_gla", torch.float32, TF32, id="chunk-float32"),
    pytest.param("chunk_simple_gla", torch.bfloat16, BF16, id="chunk-bf16"),
    pytest.param("fused_recurrent_simple_gla", torch.float32, FP32, id="recurrent-float32"),
    pytest.param("fused_recurrent_simple_gla", torch.bfloat16, BF16, id="recurrent-bf16"),
]


@pytest.fixture(scope="module")
def ops():
    """Import fla under the emulator, and forget that import afterwards.

    Told of capability 8.0: on 9.0 fla refuses the gated backward under Triton 3.4 to 3.7.0,
    which compile it wrongly there.
    """
    before = {name: module for name, module in sys.modules.items() if name.startswith("fla")}
    for name in before:
        del sys.modules[name]
    with emulator.emulated(capability=(8, 0)):
        from fla.ops import simple_gla

        yield simple_gla
    for name in [name for name in sys.modules if name.startswith("fla")]:
        del sys.modules[name]
    sys.modules.update(before)


def recurrence(q, k, v, g, state, bounds):
    outputs, finals = [], []
    for n, (start, end) in enumerate(bounds):
        b = 0 if q.shape[0] == 1 else n
        S = state[n]
        for t in range(start, end):
            S = g[b, t].exp()[:, None, None] * S + k[b, t, :, :, None] * v[b, t, :, None, :]
            outputs.append((q[b, t, :, :, None] * S).sum(1) * K**-0.5)
        finals.append(S)
    return torch.stack(outputs).view(*q.shape[:3], V), torch.stack(finals)


def draw(dtype, *, packed):
    generator = torch.Generator().manual_seed(0)
    B = 1 if packed else 2
    q, k, v = (torch.randn(B, T, H, d, generator=generator).to(dtype) for d in (K, K, V))
    g = -0.3 * torch.rand(B, T, H, generator=generator)
    state = torch.randn(2, H, K, V, generator=generator)
    return q, k, v, g, state


def relative(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("per_head", [False, True], ids=["g", "g_gamma"])
@pytest.mark.parametrize(("name", "dtype", "limit"), CASES)
def test_simple_gla_and_its_gradient_agree_with_the_recurrence(
    ops, name, dtype, limit, per_head, packed
):
    q, k, v, g, state = draw(dtype, packed=packed)
    cuts = torch.tensor([0, 17, T]) if packed else None
    bounds = [(0, 17), (17, T)] if packed else [(0, T)] * 2
    if per_head:
        g = g[0, 0].expand_as(g)
    wide = [x.double().requires_grad_() for x in (q, k, v, g, state)]
    q, k, v, state = (x.requires_grad_() for x in (q, k, v, state))
    decay = {"g_gamma": g[0, 0].clone()} if per_head else {"g": g.requires_grad_()}
    before = emulator.launches()

    out = getattr(ops, name)(
        q,
        k,
        v,
        scale=K**-0.5,
        initial_state=state,
        output_final_state=True,
        cu_seqlens=cuts,
        **decay,
    )
    expected = recurrence(*wide, bounds)
    weights = [torch.randn_like(e).to(o.dtype) for e, o in zip(expected, out, strict=True)]
    torch.autograd.backward(out, weights)
    torch.autograd.backward(expected, [w.double() for w in weights])

    assert emulator.launches() > before
    for actual, want in zip(out, expected, strict=True):
        assert relative(actual, want) < limit
    for actual, want in zip((q, k, v, g, state), wide, strict=True):
        if actual.grad is not None:
            assert relative(actual.grad, want.grad) < limit


def test_every_configuration_gives_the_same_output(ops):
    q, k, v, g, state = draw(torch.bfloat16, packed=False)
    gamma = g[0, 0].clone()

    def run(index):
        emulator.select_config(index)
        return ops.chunk_simple_gla(q, k, v, g_gamma=gamma, initial_state=state)[0]

    first = run(0)
    count = emulator.configs()["chunk_fwd_kernel_h"]
    assert count > 12
    for index in (count // 3, count // 2, count - 1):
        assert relative(run(index), first.double()) < BF16
    emulator.select_config(None)


def test_float32_is_tf32_unless_asked_otherwise(ops, monkeypatch):
    q, k, v, g, state = draw(torch.float32, packed=False)
    expected, _ = recurrence(*(x.double() for x in (q, k, v, g, state)), [(0, T)] * 2)
    loose = relative(ops.chunk_simple_gla(q, k, v, g=g, initial_state=state)[0], expected)
    monkeypatch.setenv("TRITON_F32_DEFAULT", "ieee")
    exact = relative(ops.chunk_simple_gla(q, k, v, g=g, initial_state=state)[0], expected)
    assert exact < FP32 < 100 * exact < loose < TF32
